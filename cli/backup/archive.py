"""The backup file: a tar stream inside an age file (age-encryption.org/v1), with the digest of every member at its end.

Nothing of it lies on a disk in the clear; `age --decrypt` and `tar` open it without this command.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyrage

from cli.backup.contents import is_database, spools, what_spools_come_before
from cli.backup.postgres import FOLDER, dump
from mesh.errors import Code, TiationError

__all__ = ["FORMATS", "MANIFEST", "ArchiveError", "Member", "Summary", "open_archive", "write_archive"]

MANIFEST = "MANIFEST.json"
FORMATS = (1, 2)
"""Those that can be restored: what is in PostgreSQL came with the second."""
_CHUNK_BYTES = 1024 * 1024


class ArchiveError(TiationError):
    """A backup cannot be written, or is none, or is damaged, or is for somebody else."""

    code = Code.DATA_LOSS
    reason = "BACKUP_UNUSABLE"


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a backup: where it was below the home, its bytes and their SHA-256."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(slots=True)
class Summary:
    """What a backup holds.

    Attributes:
        release: of the platform that made it.
        members: its files, in the order in which they were copied.
    """

    release: str
    members: list[Member] = field(default_factory=list)

    def to_json(self) -> bytes:
        """As the last member of the archive."""
        files = [{"path": m.path, "size_bytes": m.size_bytes, "sha256": m.sha256} for m in self.members]
        kind = FORMATS[any(m.path.startswith(f"{FOLDER}/") for m in self.members)]
        return json.dumps({"format": kind, "release": self.release, "files": files}, indent=1).encode()


def write_archive(
    home: Path,
    target: Path,
    recipients: Sequence[Any],
    release: str,
    say: Callable[[str], None],
    *,
    database: str = "",
) -> Summary:
    """Write a home's backup to `target`, wholly or not at all.

    Args:
        home: the state folder; the platform may be running.
        target: the file; it appears when it is complete.
        recipients: age recipients who may open it.
        release: of this platform.
        say: told of every database, which may take a while.
        database: PostgreSQL's URL, where the services' databases are there.

    Raises:
        ArchiveError: a database is damaged.
        PostgresError: PostgreSQL refused something.
    """
    unfinished = target.with_name(f".{target.name}.unfinished")
    summary = Summary(release)
    try:
        with (
            unfinished.open("xb") as sealed,
            _encrypting(sealed, recipients) as plain,
            tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            _add_all(tar, home, spools(home), target.parent, summary, say)
            if database:
                dump(database, lambda name, data: _add_member(tar, name, data, summary), say)
            _add_all(tar, home, what_spools_come_before(home), target.parent, summary, say)
            _add_bytes(tar, MANIFEST, summary.to_json())
        unfinished.chmod(0o600)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return summary


def _add_all(
    tar: tarfile.TarFile, home: Path, paths: Iterable[Path], scratch: Path, summary: Summary, say: Callable[[str], None]
) -> None:
    for path in paths:
        with suppress(FileNotFoundError):  # it has moved on since it was listed
            _add(tar, home, path, scratch, summary, say)


def _add(
    tar: tarfile.TarFile, home: Path, path: Path, scratch: Path, summary: Summary, say: Callable[[str], None]
) -> None:
    """Copy one file into the archive; a database as it is at one moment."""
    name = path.relative_to(home).as_posix()
    if not is_database(path):
        data = path.read_bytes() if path.stat().st_size < _CHUNK_BYTES else None
        if data is not None:
            _add_member(tar, name, data, summary)
            return
        with path.open("rb") as file:
            summary.members.append(_add_file(tar, name, file, os.fstat(file.fileno()).st_size))
        return
    say(f"  copying {name} ({path.stat().st_size / 1e6:.1f} MB)")
    with tempfile.TemporaryDirectory(prefix=".tiation-backup-", dir=scratch) as folder:
        copy = Path(folder) / "copy"
        _copy_database(path, copy, name)
        with copy.open("rb") as file:
            summary.members.append(_add_file(tar, name, file, os.fstat(file.fileno()).st_size))


def _copy_database(path: Path, copy: Path, name: str) -> None:
    copy.touch(mode=0o600)
    try:
        with (
            closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as made,
        ):
            source.backup(made)
            found = made.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise ArchiveError(f"{name} cannot be read ({error}); restore it from an earlier backup", file=name) from error
    if found != "ok":
        raise ArchiveError(f"{name} is damaged ({found}); restore it from an earlier backup", file=name)


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


def _add_file(tar: tarfile.TarFile, name: str, file: IO[bytes], size: int) -> Member:
    reading = _Digesting(file, size)
    tar.addfile(_info(name, size), reading)
    return Member(name, size, reading.digest.hexdigest())


def _add_member(tar: tarfile.TarFile, name: str, data: bytes, summary: Summary) -> None:
    _add_bytes(tar, name, data)
    summary.members.append(Member(name, len(data), hashlib.sha256(data).hexdigest()))


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    tar.addfile(_info(name, len(data)), io.BytesIO(data))


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info


@contextmanager
def _encrypting(sealed: IO[bytes], recipients: Sequence[Any]) -> Iterator[IO[bytes]]:
    """A stream; what is written to it arrives encrypted in `sealed`."""
    with _piped(lambda reader: pyrage.encrypt_io(reader, sealed, recipients)) as plain:
        yield plain
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
