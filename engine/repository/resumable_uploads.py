"""Uploads that may be broken off and go on: each a folder of its tenant's, forgotten when nothing more comes.

What is in one is written by `engine.repository.upload`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.errors import TooManyUploadsError, UploadBusyError, UploadExistsError, UploadNotFoundError
from engine.repository.models import File
from engine.repository.upload import Upload, check_files, check_room

__all__ = ["Progress", "ResumableUploads"]

_KEPT_S = 24 * 3600.0
"""So long after the last piece an upload is forgotten."""
_MOST = 16
"""Uploads of one tenant that are not finished."""
_LIST = "upload.json"
_LOCK = "lock"
_FILES = "files"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload has come.

    Attributes:
        received: bytes of each file, in the order in which they are to come.
        expires: when it is forgotten, seconds since the epoch.
    """

    received: Mapping[str, int]
    expires: float


class ResumableUploads:
    """The uploads of all tenants. Everything here blocks.

    Args:
        folder: below it a folder a tenant and an upload; on the same disk as the models.
        now: seconds since the epoch.
    """

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._now = now

    def begin(
        self, tenant: str, upload_id: str, files: Sequence[File], known: Mapping[str, Sequence[Path]]
    ) -> Progress:
        """Begin an upload, or see how far it has come.

        Args:
            tenant: whose.
            upload_id: the caller's.
            files: what will come.
            known: files of the tenant's versions, by SHA-256; what is among them need not come.

        Raises:
            UploadError: the list itself is wrong.
            UploadExistsError: there is one of this id with other files.
            TooManyUploadsError: the tenant has too many.
            StorageFullError: there is no room for it.
        """
        check_files(files)
        self._forget_old()
        place = self._folder / tenant / upload_id
        if (place / _LIST).exists():
            (place / _FILES).mkdir(mode=0o700, exist_ok=True)  # a push that was cut off may have taken it away
            return self._progress(place, self._same(place, files))
        others = list((self._folder / tenant).glob(f"*/{_LIST}"))
        if len(others) >= _MOST:
            raise TooManyUploadsError(
                f"there are {len(others)} uploads that are not finished; finish or cancel one, or wait: each is "
                "forgotten 24 hours after its last piece",
                retry_after_s=60.0,
            )
        (place / _FILES).mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in files:
            _take_known(file, place / _FILES / file.path, known.get(file.sha256, ()))
        progress = self._progress(place, files)
        try:
            check_room(place, sum(file.size_bytes for file in files) - sum(progress.received.values()))
            part = place / f".{_LIST}"
            part.write_bytes(msgspec.json.encode(list(files)))
            part.rename(place / _LIST)
        except BaseException:  # whatever ends it, no half of a place stays
            shutil.rmtree(place, ignore_errors=True)
            raise
        return progress

    @contextmanager
    def writing(self, tenant: str, upload_id: str, files: Sequence[File]) -> Iterator[Upload]:
        """An upload to go on with; nobody else can meanwhile, in this process or another.

        Raises:
            UploadNotFoundError: there is none.
            UploadExistsError: it is of other files.
            UploadBusyError: somebody else goes on with it.
        """
        place = self._folder / tenant / upload_id
        if not (place / _LIST).exists():
            raise _not_found(upload_id)
        known = self._same(place, files)
        with _alone(place):
            if not (place / _LIST).exists():
                raise _not_found(upload_id)
            (place / _FILES).mkdir(mode=0o700, exist_ok=True)
            yield Upload(place / _FILES, known)

    def cancel(self, tenant: str, upload_id: str) -> None:
        """Forget an upload.

        Raises:
            UploadNotFoundError: there is none.
            UploadBusyError: somebody goes on with it: its files must not change under who has looked at them.
        """
        place = self._folder / tenant / upload_id
        if not (place / _LIST).exists():
            raise _not_found(upload_id)
        with _alone(place):
            _remove(place)

    def finished(self, tenant: str, upload_id: str) -> None:
        """Forget an upload whose files have gone where they belong, or never can."""
        _remove(self._folder / tenant / upload_id)

    def _progress(self, place: Path, files: Iterable[File]) -> Progress:
        received = {file.path: _size(place / _FILES / file.path) for file in files}
        return Progress(received, _touched(place) + _KEPT_S)

    def _same(self, place: Path, files: Sequence[File]) -> list[File]:
        kept: list[File] = msgspec.json.decode((place / _LIST).read_bytes(), type=list[File])
        if kept != list(files):
            raise UploadExistsError(f"upload {place.name} is of other files; choose another id, or cancel it")
        return kept

    def _forget_old(self) -> None:
        """Remove uploads for which nothing has come for long, whosever they are."""
        for place in self._folder.glob("*/*"):
            if _touched(place) + _KEPT_S < self._now():
                _remove(place)


def _not_found(upload_id: str) -> UploadNotFoundError:
    return UploadNotFoundError(f"there is no upload {upload_id}; begin it", upload=upload_id)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Keep everybody else from an upload meanwhile, in this process or another.

    Raises:
        UploadBusyError: somebody else goes on with it.
        UploadNotFoundError: it has just been removed.
    """
    try:
        lock = (place / _LOCK).open("ab")
    except FileNotFoundError:
        raise _not_found(place.name) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.path.samestat(os.fstat(lock.fileno()), (place / _LOCK).stat())
        except OSError:
            is_there = False
        if not is_there:  # it is held, or was removed and begun anew since it was opened
            raise UploadBusyError(
                f"upload {place.name} is written by another call; try again when that has ended", retry_after_s=1.0
            )
        yield


def _remove(place: Path) -> None:
    """Remove an upload, its list first: without that it is none."""
    (place / _LIST).unlink(missing_ok=True)
    shutil.rmtree(place, ignore_errors=True)


def _touched(place: Path) -> float:
    """When something last came for an upload, seconds since the epoch."""
    times = [0.0]
    for path in (place, *place.glob("*"), *place.glob(f"{_FILES}/*")):
        with suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _take_known(file: File, target: Path, known: Iterable[Path]) -> None:
    """Have a file that is in another version already. Its digest is checked with all others at the end."""
    for path in known:
        with suppress(OSError):
            if path.stat().st_size == file.size_bytes:
                target.unlink(missing_ok=True)
                os.link(path, target)
                return
