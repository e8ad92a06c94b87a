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

__all__ = ["MAX_MODEL_BYTES", "Upload", "begin", "check_files", "check_room"]

MAX_MODEL_BYTES = 8 * 1024**3
_SPARE_BYTES = 16 * 1024**2


def check_files(files: Sequence[File]) -> None:
    """See that a list of files may be sent.

    Raises:
        UploadError: it may not.
    """
    names = [file.path for file in files]
    if len(set(names)) != len(names):
        raise UploadError("header.files: a name is there twice")
    if MANIFEST_FILE not in names:
        raise UploadError(f"header.files: {MANIFEST_FILE} is missing")
    total = sum(file.size_bytes for file in files)
    if total > MAX_MODEL_BYTES:
        raise UploadError(f"header.files: {total} bytes are more than the {MAX_MODEL_BYTES} allowed")


def check_room(parent: Path, size: int) -> None:
    """See that there is room for so many bytes more.

    Raises:
        StorageFullError: there is not.
    """
    if size + _SPARE_BYTES > shutil.disk_usage(parent).free:
        raise StorageFullError(f"the model is {size} bytes, and there is not that much room; free some first")


def begin(parent: Path, files: Sequence[File], prefix: str) -> Upload:
    """An upload that comes whole in one call, or not at all, in a folder of its own.

    Raises:
        UploadError: the list itself is wrong.
        StorageFullError: there is no room for it.
    """
    check_files(files)
    check_room(parent, sum(file.size_bytes for file in files))
    return Upload(Path(tempfile.mkdtemp(dir=parent, prefix=prefix)), files)


class Upload:
    """A folder that fills. What is in it already is continued; it is read once, for its digest.

    Args:
        folder: where the files go; it is there.
        files: what will come, in this order.
    """

    def __init__(self, folder: Path, files: Sequence[File]) -> None:
        self.folder = folder
        self._files = list(files)
        self._at = 0
        self._open: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._written = 0

    def write(self, path: str, data: bytes, offset: int | None = None) -> None:
        """Take the next piece.

        Args:
            path: the file.
            data: its bytes.
            offset: where in the file they begin; None for right after what is there.

        Raises:
            UploadError: it is not the file whose turn it is, or longer than the header said, or begins elsewhere.
            DigestMismatchError: a file is whole, and is not what the header said.
            StorageFullError: no room is left.
        """
        while self._at < len(self._files) and path != self._files[self._at].path:
            self._finish_file()
        if self._at >= len(self._files):
            raise UploadError(f"{path[:128]}: is not in the header, or comes out of turn")
        file = self._files[self._at]
        try:
            opened = self._opened(file)
            if offset is not None and offset != self._written:
                raise UploadError(f"{path}: goes on at byte {self._written}, and the piece begins at {offset}")
            if self._written + len(data) > file.size_bytes:
                raise UploadError(f"{path}: is longer than the {file.size_bytes} bytes that the header says")
            opened.write(data)
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

    def pause(self) -> None:
        """Leave what came where it is."""
        if self._open is not None:
            opened, self._open = self._open, None
            try:
                opened.close()
            except OSError as error:
                raise _translated(error) from None

    def abandon(self) -> None:
        """Remove whatever came."""
        try:
            self.pause()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _opened(self, file: File) -> BinaryIO:
        """The file whose turn it is, open at its end; what is there of it is in the digest."""
        if self._open is None:
            opened = (self.folder / file.path).open("a+b")
            opened.seek(0)
            while data := opened.read(1 << 20):
                self._hash.update(data)
                self._written += len(data)
            self._open = opened
        return self._open

    def _finish_file(self) -> None:
        """Close the file whose turn it was; one with other bytes than were said is removed, and can be sent again."""
        file = self._files[self._at]
        try:
            opened = self._opened(file)
            if self._written != file.size_bytes:
                raise UploadError(f"{file.path}: {self._written} of {file.size_bytes} bytes came; push the whole file")
            if self._hash.hexdigest() != file.sha256:
                (self.folder / file.path).unlink()
                raise DigestMismatchError(
                    f"{file.path}: its SHA-256 is {self._hash.hexdigest()}, the header says {file.sha256}"
                )
            opened.flush()
            os.fsync(opened.fileno())
            opened.close()
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
