"""What is wrong with a model's files, its manifest, or what is to compute it."""

from __future__ import annotations

from engine.errors.base import EngineError
from mesh.errors import Code, FieldViolation

__all__ = [
    "CacheUrlError",
    "DeviceUnavailableError",
    "ExternalDataError",
    "ManifestError",
    "ModelCrashedError",
    "ModelFaultError",
    "ModelFileError",
    "ModelLoadError",
    "OpsetError",
    "SignatureError",
    "WarmUpError",
]


class ManifestError(EngineError):
    """`model.yaml` is not a manifest."""

    code = Code.INVALID_ARGUMENT
    reason = "MANIFEST_INVALID"

    def __init__(self, message: str) -> None:
        message = "".join([each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in message])
        super().__init__(f"model.yaml: {message}", violations=(FieldViolation("model.yaml", message),))


class ModelFileError(EngineError):
    """A model file is truncated, is no ONNX, or is not a valid graph."""

    code = Code.INVALID_ARGUMENT
    reason = "MODEL_FILE_INVALID"


class ExternalDataError(EngineError):
    """A model keeps weights in a file outside its own folder."""

    code = Code.INVALID_ARGUMENT
    reason = "EXTERNAL_DATA_REFUSED"


class OpsetError(EngineError):
    """A model needs operators that this runtime does not have."""

    code = Code.INVALID_ARGUMENT
    reason = "OPSET_UNSUPPORTED"


class ModelLoadError(EngineError):
    """The runtime refused a model that looked valid."""

    code = Code.FAILED_PRECONDITION
    reason = "MODEL_LOAD_FAILED"


class ModelCrashedError(EngineError):
    """A model ends the process that opens it."""

    code = Code.INVALID_ARGUMENT
    reason = "MODEL_CRASHED"


class ModelFaultError(EngineError):
    """A version ended the engine, twice, while it computed."""

    code = Code.FAILED_PRECONDITION
    reason = "MODEL_FAULT"


class DeviceUnavailableError(EngineError):
    """The device in the settings is not there."""

    code = Code.FAILED_PRECONDITION
    reason = "DEVICE_UNAVAILABLE"


class CacheUrlError(EngineError):
    """The setting that says where Redis is says it in no way that Redis knows."""

    code = Code.FAILED_PRECONDITION
    reason = "CACHE_URL_INVALID"

    def __init__(self) -> None:
        super().__init__(
            "engine.cache_redis is no URL of Redis; it must be like redis://:PASSWORD@HOST:6379/0",
            setting="engine.cache_redis",
        )


class WarmUpError(EngineError):
    """A version was opened and then failed what its manifest warms it up with."""

    code = Code.FAILED_PRECONDITION
    reason = "WARM_UP_FAILED"


class SignatureError(EngineError):
    """A version is not signed by somebody who is trusted, or is not what was signed."""

    code = Code.FAILED_PRECONDITION
    reason = "SIGNATURE_REFUSED"
