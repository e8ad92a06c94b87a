"""An upload on its way: written aside, checked against what its header said, never seen before it is whole."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from engine.errors import DigestMismatchError, StorageFullError, UploadError
from engine.manifest import MANIFEST_FILE
from engine.repository.models import File

__all__ = ["MAX_MODEL_BYTES", "Upload"]

MAX_MODEL_BYTES = 8 * 1024**3


class Upload:
    """A folder that fills.

    Args:
        parent: where models are; the folder is made in it.
        files: what will come, in this order.
        prefix: how the folder's name begins.

    Raises:
        UploadError: the list itself is wrong.
        StorageFullError: there is no room for it.
    """

    def __init__(self, parent: Path, files: Sequence[File], prefix: str = ".upload-") -> None:
        names = [file.path for file in files]
        if len(set(names)) != len(names):
            raise UploadError("header.files: a name is there twice")
        if MANIFEST_FILE not in names:
            raise UploadError(f"header.files: {MANIFEST_FILE} is missing")
        total = sum(file.size_bytes for file in files)
        if total > MAX_MODEL_BYTES:
            raise UploadError(f"header.files: {total} bytes are more than the {MAX_MODEL_BYTES} allowed")
        if total + 16 * 1024**2 > shutil.disk_usage(parent).free:
            raise StorageFullError(f"the model is {total} bytes, and there is not that much room; free some first")
        self.folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        self._files = list(files)
        self._at = 0
        self._open: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._written = 0

    def write(self, path: str, data: bytes) -> None:
        """Take the next piece.

        Raises:
            UploadError: it is not the file whose turn it is, or longer than the header said.
            DigestMismatchError: a file is whole, and is not what the header said.
            StorageFullError: no room is left.
        """
        while self._at < len(self._files) and path != self._files[self._at].path:
            self._finish_file()
        if self._at >= len(self._files):
            raise UploadError(f"{path[:128]}: is not in the header, or comes out of turn")
        file = self._files[self._at]
        if self._written + len(data) > file.size_bytes:
            raise UploadError(f"{path}: is longer than the {file.size_bytes} bytes that the header says")
        try:
            if self._open is None:
                self._open = (self.folder / path).open("xb")
            self._open.write(data)
        except OSError as error:
            raise _translated(error) from None
        self._hash.update(data)
        self._written += len(data)

    def finish(self) -> None:
        """See that everything came, and bring it to the disk.

        Raises:
            UploadError, DigestMismatchError, StorageFullError: as `write`.
        """
        while self._at < len(self._files):
            self._finish_file()

    def abandon(self) -> None:
        """Remove whatever came."""
        if self._open is not None:
            self._open.close()
            self._open = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _finish_file(self) -> None:
        """Close the file whose turn it was."""
        file = self._files[self._at]
        if self._written != file.size_bytes:
            raise UploadError(f"{file.path}: {self._written} of {file.size_bytes} bytes came; push the whole file")
        if self._hash.hexdigest() != file.sha256:
            raise DigestMismatchError(
                f"{file.path}: its SHA-256 is {self._hash.hexdigest()}, the header says {file.sha256}"
            )
        try:
            if self._open is None:
                self._open = (self.folder / file.path).open("xb")
            self._open.flush()
            os.fsync(self._open.fileno())
            self._open.close()
        except OSError as error:
            raise _translated(error) from None
        self._open = None
        self._at += 1
        self._hash, self._written = hashlib.sha256(), 0


def _translated(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFullError(
            "no space is left under the state folder; free some, then push again", retry_after_s=5.0
        )
    return error
