"""The backup file: a tar stream inside an age file (age-encryption.org/v1), with the digest of every member at its end.

While it is written nothing of it lies on a disk in the clear outside the home. `age --decrypt` and `tar` open it
without this command.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import pyrage

from cli.backup.contents import POSTGRES, Kept, Survey, is_database
from cli.backup.copying import ArchiveError, copy_database, no_room_at
from cli.backup.postgres import dump
from cli.backup.scratch import scratch, unfinished

__all__ = ["FORMATS", "MANIFEST", "ArchiveError", "Member", "Summary", "open_archive", "write_archive"]

MANIFEST = "MANIFEST.json"
FORMATS = (1, 2, 3)
"""Those that can be restored: what is in PostgreSQL came with the second, folders from elsewhere with the third."""
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a backup: its name there, which is where it was below the home, its bytes and their SHA-256."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(slots=True)
class Summary:
    """What a backup holds.

    Attributes:
        release: of the platform that made it.
        members: its files, in the order in which they were copied.
        elsewhere: the folders outside the home that are in it too, by the setting that names them.
        left_out: what is not in it although it may belong to the state, with the reason.
        told: what whoever restores it has to know.
    """

    release: str
    members: list[Member] = field(default_factory=list)
    elsewhere: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def to_json(self) -> bytes:
        """As the last member of the archive."""
        files = [{"path": m.path, "size_bytes": m.size_bytes, "sha256": m.sha256} for m in self.members]
        kind = FORMATS[any(m.path.startswith(f"{POSTGRES}/") for m in self.members)]
        found: dict[str, Any] = {"format": kind, "release": self.release, "files": files}
        if self.elsewhere:
            found |= {"format": 3, "elsewhere": self.elsewhere}
        return json.dumps(found, indent=1).encode()


def write_archive(
    home: Path,
    target: Path,
    recipients: Sequence[Any],
    release: str,
    say: Callable[[str], None],
    *,
    database: str = "",
    elsewhere: Mapping[str, Path] = MappingProxyType({}),
) -> Summary:
    """Write a home's backup to `target`, wholly or not at all.

    Args:
        home: the state folder; the platform may be running.
        target: the file; it appears when it is complete.
        recipients: age recipients who may open it.
        release: of this platform.
        say: told of every database, which may take a while.
        database: PostgreSQL's URL, where the services' databases are there.
        elsewhere: the folders of the state that are not in the home, by the setting's name.

    Raises:
        ArchiveError: a database is damaged.
        NoRoomError: a disk is full.
        PostgresError: PostgreSQL refused something.
    """
    survey = Survey(home, elsewhere)
    summary = Summary(release)
    with no_room_at(target.parent), unfinished(target) as file, scratch(home) as folder:
        with _sealed(file, recipients) as tar:
            writer = _Writer(tar, summary, home, folder, say)
            writer.add_all(survey.spools())
            if database:
                dump(database, writer.add_bytes, say)
            writer.add_all(survey.what_spools_come_before())
            summary.left_out = survey.left_out
            summary.elsewhere = {name: str(path) for name, path in elsewhere.items() if path.is_dir()}
            _write_member(tar, MANIFEST, summary.to_json())
        file.replace(target)
    return summary


class _Writer:
    """Adds files to an archive.

    Args:
        tar: the archive.
        summary: told of each member.
        home: what is copied.
        folder: in it, for copies of databases.
        say: told of each database.
    """

    def __init__(
        self, tar: tarfile.TarFile, summary: Summary, home: Path, folder: Path, say: Callable[[str], None]
    ) -> None:
        self._tar = tar
        self._summary = summary
        self._home = home
        self._folder = folder
        self._say = say

    def add_all(self, found: Iterable[Kept]) -> None:
        """Copy files into the archive; a database as it is at one moment."""
        for each in found:
            with suppress(FileNotFoundError):  # it has moved on since it was listed
                self._add(each)

    def add_bytes(self, name: str, data: bytes) -> None:
        """Add a member that is no file."""
        _write_member(self._tar, name, data)
        self._summary.members.append(Member(name, len(data), hashlib.sha256(data).hexdigest()))

    def _add(self, kept: Kept) -> None:
        if not is_database(kept.path):
            if kept.path.stat().st_size < _CHUNK_BYTES:
                self.add_bytes(kept.name, kept.path.read_bytes())
            else:
                self._add_file(kept.name, kept.path)
            return
        self._say(f"  copying {kept.name} ({kept.path.stat().st_size / 1e6:.1f} MB)")
        copy = self._folder / "copy"
        try:
            copy_database(self._home, kept.path, copy, kept.name)
            self._add_file(kept.name, copy)
        finally:
            copy.unlink(missing_ok=True)

    def _add_file(self, name: str, path: Path) -> None:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            reading = _Digesting(file, size)
            self._tar.addfile(_info(name, size), reading)
        self._summary.members.append(Member(name, size, reading.digest.hexdigest()))


class _Digesting(io.RawIOBase):
    """A file's first `size` bytes, with their digest as they are read; what is appended meanwhile stays out."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size
        self.digest = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        data = self._file.read(min(size, self._left) if size >= 0 else self._left)
        self._left -= len(data)
        self.digest.update(data)
        return data


def _write_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    tar.addfile(_info(name, len(data)), io.BytesIO(data))


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info


class _Noting:
    """A file that remembers why it could not be written: the encryption passes on the words alone."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write some of the bytes; returns how many."""
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Nothing is kept back."""


@contextmanager
def _sealed(file: Path, recipients: Sequence[Any]) -> Iterator[tarfile.TarFile]:
    """An archive that arrives encrypted in a file."""
    with (
        file.open("wb", buffering=0) as sealed,
        _encrypting(sealed, recipients) as plain,
        tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        yield tar


@contextmanager
def _encrypting(sealed: IO[bytes], recipients: Sequence[Any]) -> Iterator[IO[bytes]]:
    """A stream; what is written to it arrives encrypted in `sealed`."""
    noting = _Noting(sealed)
    try:
        with _piped(lambda reader: pyrage.encrypt_io(reader, noting, recipients)) as plain:
            yield plain
    except pyrage.EncryptError:
        raise noting.error or ArchiveError("the backup cannot be encrypted") from None
    os.fsync(sealed.fileno())


@contextmanager
def _piped(work: Callable[[IO[bytes]], None]) -> Iterator[IO[bytes]]:
    """The writing end of a pipe at whose other end a thread works; its error is raised here."""
    reading, writing = os.pipe()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with os.fdopen(reading, "rb") as reader:
                work(reader)
        except BaseException as error:  # noqa: BLE001 -- handed to the thread that writes
            failures.append(error)

    thread = threading.Thread(target=run, name="backup-encrypt")
    thread.start()
    try:
        with os.fdopen(writing, "wb", buffering=_CHUNK_BYTES) as writer:
            yield writer
    finally:
        thread.join()
        if failures:
            raise failures[0]


@contextmanager
def open_archive(source: Path, identities: Sequence[Any]) -> Iterator[tarfile.TarFile]:
    """The tar stream of a backup, decrypted as it is read.

    Raises:
        ArchiveError: it is no backup, is damaged, or cannot be opened with these identities.
    """
    reading, writing = os.pipe()
    failures: list[BaseException] = []

    def decrypt() -> None:
        try:
            with source.open("rb") as sealed, os.fdopen(writing, "wb", buffering=_CHUNK_BYTES) as plain:
                pyrage.decrypt_io(sealed, plain, identities)
        except BrokenPipeError:
            pass  # the reader has seen enough
        except BaseException as error:  # noqa: BLE001 -- handed to the thread that reads
            failures.append(error)

    thread = threading.Thread(target=decrypt, name="backup-decrypt")
    thread.start()
    try:
        with os.fdopen(reading, "rb") as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
            yield tar
    except tarfile.TarError as error:
        thread.join()
        raise _unusable(source, failures[0] if failures else error) from None
    finally:
        thread.join()
    if failures:
        raise _unusable(source, failures[0])


def _unusable(source: Path, error: BaseException) -> ArchiveError:
    said = str(error)
    if isinstance(error, pyrage.DecryptError) and "No matching keys" in said:
        return ArchiveError(f"{source} is for other keys than these; give the right one with --identity", file=source)
    return ArchiveError(f"{source} is no backup, or is damaged or cut short ({said})", file=source)
