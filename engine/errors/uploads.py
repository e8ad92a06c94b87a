"""What goes wrong on a model's way in, and where models are kept."""

from __future__ import annotations

from engine.errors.base import EngineError
from mesh.errors import Code

__all__ = [
    "DigestMismatchError",
    "StorageFullError",
    "StorageSettingError",
    "StorageUnavailableError",
    "TooManyUploadsError",
    "UploadBusyError",
    "UploadError",
    "UploadExistsError",
    "UploadNotFoundError",
]


class UploadError(EngineError):
    """The pieces of an upload do not make the files that its header promised."""

    code = Code.INVALID_ARGUMENT
    reason = "UPLOAD_INVALID"


class UploadNotFoundError(EngineError):
    """The tenant has no such upload."""

    code = Code.NOT_FOUND
    reason = "UPLOAD_NOT_FOUND"


class UploadExistsError(EngineError):
    """There is an upload of this id with other files."""

    code = Code.ALREADY_EXISTS
    reason = "UPLOAD_EXISTS"


class UploadBusyError(EngineError):
    """Another call writes to the upload."""

    code = Code.UNAVAILABLE
    reason = "UPLOAD_BUSY"


class TooManyUploadsError(EngineError):
    """The tenant has more unfinished uploads than one may have."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_UPLOADS"


class DigestMismatchError(EngineError):
    """A file arrived with other bytes than its SHA-256 says."""

    code = Code.INVALID_ARGUMENT
    reason = "DIGEST_MISMATCH"


class StorageUnavailableError(EngineError):
    """The storage that keeps models does not answer, or refuses."""

    code = Code.UNAVAILABLE
    reason = "STORAGE_UNAVAILABLE"


class StorageSettingError(EngineError):
    """The settings of the storage that keeps models cannot be."""

    code = Code.INVALID_ARGUMENT
    reason = "STORAGE_SETTING_INVALID"


class StorageFullError(EngineError):
    """The disk under the state folder has no room."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "STORAGE_FULL"
