"""Bringing a backup back: into an empty home, after every byte of it was checked, all at once or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from cli.backup.archive import FORMATS, MANIFEST, ArchiveError, Member, Summary, open_archive
from cli.backup.contents import is_database
from cli.backup.postgres import CONTENTS, FOLDER, Contents, check, loading
from mesh.config import load_settings
from mesh.errors import Code, TiationError

__all__ = ["DatabaseKindError", "HomeNotEmptyError", "restore_archive"]

_SETTINGS = "tiation.yaml"
_CHUNK_BYTES = 1024 * 1024
_MAX_MANIFEST_BYTES = 64 * 1024 * 1024


class HomeNotEmptyError(TiationError):
    """A backup goes into an empty home only."""

    code = Code.FAILED_PRECONDITION
    reason = "HOME_NOT_EMPTY"


class DatabaseKindError(TiationError):
    """The databases in the backup are of another kind than those that the settings name."""

    code = Code.FAILED_PRECONDITION
    reason = "DATABASE_OF_OTHER_KIND"


def restore_archive(
    source: Path, home: Path, identities: Sequence[Any], say: Callable[[str], None], *, check_only: bool = False
) -> Summary:
    """Restore a backup.

    Args:
        source: the backup file.
        home: the home to be; must be empty or missing, but for a `tiation.yaml`, which then goes before the backup's.
        identities: age identities that may open it.
        say: told of every database.
        check_only: true to check everything and keep nothing.

    Raises:
        ArchiveError: the backup is damaged, incomplete, or for somebody else.
        HomeNotEmptyError: there is something in the home.
        DatabaseNotEmptyError: there is something in the PostgreSQL database.
        DatabaseKindError: the settings name SQLite and the backup is of PostgreSQL, or the other way round.
    """
    if not check_only and home.exists() and {path.name for path in home.iterdir()} - {_SETTINGS}:
        raise HomeNotEmptyError(
            f"{home} is not empty; restore into another one with --home, or move that one away first", home=home
        )
    home.parent.mkdir(parents=True, exist_ok=True)
    unfinished = home.with_name(f".{home.name}.restoring")
    shutil.rmtree(unfinished, ignore_errors=True)  # what a restore that was killed left behind
    unfinished.mkdir(mode=0o700)
    try:
        summary = _extract(source, unfinished, identities)
        for member in summary.members:
            _check_database(unfinished / member.path, member.path, say)
        contents = _contents(unfinished)
        if not check_only:
            with _loading(unfinished, home, contents, say):
                _put_in_place(unfinished, home)
    except BaseException:  # Ctrl-C leaves nothing half-done either
        _take_back(unfinished, home)
        raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return summary


def _put_in_place(unfinished: Path, home: Path) -> None:
    shutil.rmtree(unfinished / FOLDER, ignore_errors=True)
    (unfinished / "logs").mkdir(mode=0o700, exist_ok=True)
    if home.exists():
        (home / _SETTINGS).unlink(missing_ok=True)
        home.rmdir()
    unfinished.rename(home)


def _take_back(unfinished: Path, home: Path) -> None:
    """Undo it where the database was not kept after all; settings that were there stay."""
    if unfinished.exists() or not home.exists():
        return
    home.rename(unfinished)
    if (unfinished / _SETTINGS).exists():
        home.mkdir(mode=0o700)
        shutil.copyfile(unfinished / _SETTINGS, home / _SETTINGS)
        (home / _SETTINGS).chmod(0o600)


def _contents(folder: Path) -> Contents | None:
    """What of PostgreSQL is in the backup, if this release can restore it; None for a backup of SQLite."""
    file = folder / CONTENTS
    if not file.exists():
        return None
    contents = Contents.read(file.read_bytes())
    check(contents)
    return contents


@contextmanager
def _loading(unfinished: Path, home: Path, contents: Contents | None, say: Callable[[str], None]) -> Iterator[None]:
    """Bring back what is in PostgreSQL, kept if what is done meanwhile ends well.

    Settings that are in the home to be already go before those of the backup.
    """
    given = home / _SETTINGS
    if given.exists():
        shutil.copyfile(given, unfinished / _SETTINGS)
        (unfinished / _SETTINGS).chmod(0o600)
    location = load_settings(unfinished).database
    if contents is None:
        if location:
            raise DatabaseKindError(
                "the backup is of SQLite databases; leave `database` empty, here and when you start"
            )
        yield
        return
    if not location:
        raise DatabaseKindError(
            "the backup is of a PostgreSQL database; name an empty one in TIATION_DATABASE, or in a tiation.yaml that "
            "you put in the home before"
        )
    with loading(location, unfinished, contents, say):
        yield


def _extract(source: Path, folder: Path, identities: Sequence[Any]) -> Summary:
    """Write every member below the folder and compare it with the manifest."""
    found: dict[str, Member] = {}
    manifest: bytes | None = None
    with open_archive(source, identities) as tar:
        for info in tar:
            file = tar.extractfile(info) if info.isreg() else None
            if file is None:
                raise ArchiveError(f"{source} holds {info.name[:100]!r}, which is no file; it was not made here")
            if info.name == MANIFEST:
                manifest = file.read(_MAX_MANIFEST_BYTES)
                continue
            target = folder / _safe(info, source)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            found[info.name] = _write(file, target, info.name)
    if manifest is None:
        raise ArchiveError(f"{source} is cut short: it does not say what is in it", file=source)
    summary = _summary(manifest, source)
    if {member.path: member for member in summary.members} != found:
        raise ArchiveError(f"{source} does not hold what it says it holds; take another backup", file=source)
    return summary


def _safe(info: tarfile.TarInfo, source: Path) -> PurePosixPath:
    path = PurePosixPath(info.name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ArchiveError(f"{source} holds {info.name[:100]!r}, which points outside; it was not made here")
    return path


def _write(file: Any, target: Path, name: str) -> Member:  # noqa: ANN401 -- tarfile's own
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return Member(name, size, digest.hexdigest())


def _summary(manifest: bytes, source: Path) -> Summary:
    try:
        document = json.loads(manifest)
        if document["format"] not in FORMATS:
            raise ArchiveError(f"{source} was made by a newer release; restore it with that one", file=source)
        members = [Member(each["path"], each["size_bytes"], each["sha256"]) for each in document["files"]]
        return Summary(str(document["release"]), members)
    except (ValueError, KeyError, TypeError):
        raise ArchiveError(f"{source}: its manifest cannot be read; it was not made here", file=source) from None


def _check_database(path: Path, name: str, say: Callable[[str], None]) -> None:
    if not is_database(path):
        return
    say(f"  checking {name}")
    with closing(sqlite3.connect(path)) as database:
        result = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if result != "ok":
        raise ArchiveError(f"{name} is damaged in the backup ({result}); take an earlier one", file=name)
