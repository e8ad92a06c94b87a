"""What stands against a model, its versions and aliases."""

from __future__ import annotations

from engine.errors.base import EngineError
from mesh.errors import Code

__all__ = [
    "AliasNotReadyError",
    "AsideError",
    "BackboneError",
    "BackboneInUseError",
    "ModelFailedError",
    "ModelNotFoundError",
    "ModelNotReadyError",
    "ModelTooBigError",
    "NoRoomError",
    "ReadOnlyModelError",
    "VersionAliasedError",
    "VersionExistsError",
    "VersionNotFoundError",
    "VersionServingError",
]


class ModelNotFoundError(EngineError):
    """Neither the caller's tenant nor `system` has the model."""

    code = Code.NOT_FOUND
    reason = "MODEL_NOT_FOUND"


class ModelFailedError(EngineError):
    """The model is there, and none of its versions answers, because one could not be loaded."""

    code = Code.FAILED_PRECONDITION
    reason = "MODEL_FAILED"


class VersionNotFoundError(EngineError):
    """The model has no such version."""

    code = Code.NOT_FOUND
    reason = "MODEL_VERSION_NOT_FOUND"


class ModelNotReadyError(EngineError):
    """The model exists and is not loaded, or is just being unloaded."""

    code = Code.UNAVAILABLE
    reason = "MODEL_NOT_READY"


class ModelTooBigError(EngineError):
    """A model needs more memory than all models together may have."""

    code = Code.FAILED_PRECONDITION
    reason = "MODEL_TOO_BIG"


class NoRoomError(EngineError):
    """The memory for models is full, and nothing in it can be put aside now."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "MODEL_MEMORY_FULL"


class AsideError(ModelNotReadyError):
    """The version was put aside to make room, and comes back when it is asked."""

    code = Code.UNAVAILABLE
    reason = "MODEL_PUT_ASIDE"


class VersionExistsError(EngineError):
    """A version with this number and other files is already there."""

    code = Code.ALREADY_EXISTS
    reason = "MODEL_VERSION_EXISTS"


class VersionServingError(EngineError):
    """The version serves and cannot be deleted before it is unloaded."""

    code = Code.FAILED_PRECONDITION
    reason = "MODEL_VERSION_SERVING"


class VersionAliasedError(EngineError):
    """An alias names the version; it cannot go before the alias names another."""

    code = Code.FAILED_PRECONDITION
    reason = "MODEL_VERSION_ALIASED"


class AliasNotReadyError(EngineError):
    """An alias can only name versions that answer requests."""

    code = Code.FAILED_PRECONDITION
    reason = "ALIAS_VERSION_NOT_READY"


class ReadOnlyModelError(EngineError):
    """What ships with the platform cannot be changed through it."""

    code = Code.FAILED_PRECONDITION
    reason = "MODEL_READ_ONLY"


class BackboneError(EngineError):
    """A head names a backbone that is not there or gives no embeddings."""

    code = Code.FAILED_PRECONDITION
    reason = "BACKBONE_UNUSABLE"


class BackboneInUseError(EngineError):
    """Heads stand on the model; it cannot go before they do."""

    code = Code.FAILED_PRECONDITION
    reason = "BACKBONE_IN_USE"
