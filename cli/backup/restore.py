"""Bringing a backup back: into an empty home, after every byte of it was checked, all at once or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from cli.backup.archive import FORMATS, MANIFEST, ArchiveError, Member, Summary, open_archive
from cli.backup.contents import ELSEWHERE, is_database, is_left
from cli.backup.copying import no_room_at
from cli.backup.elsewhere import DEFAULTS, SETTINGS, bring_home, elsewhere
from cli.backup.placing import HomeNotEmptyError, staging
from cli.backup.postgres import CONTENTS, FOLDER, Contents, check, loading
from cli.backup.scratch import scratch
from mesh.config import Settings, load_settings
from mesh.errors import Code, TiationError

__all__ = ["DatabaseKindError", "HomeNotEmptyError", "restore_archive"]

_CHUNK_BYTES = 1024 * 1024
_MAX_MANIFEST_BYTES = 64 * 1024 * 1024


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
        home: the home to be; empty or missing, but for a `tiation.yaml`, which then goes before the backup's, and for
            empty folders.
        identities: age identities that may open it.
        say: told of every database.
        check_only: true to check everything and keep nothing.

    Raises:
        ArchiveError: the backup is damaged, incomplete, or for somebody else.
        HomeInUseError: a platform or another command has the home.
        HomeNotEmptyError: there is something in the home.
        DatabaseNotEmptyError: there is something in the PostgreSQL database.
        DatabaseKindError: the settings name SQLite and the backup is of PostgreSQL, or the other way round.
    """
    if check_only:
        with no_room_at(home), scratch(_nearest(home)) as folder:
            return _staged(source, folder, identities, say)[0]
    with no_room_at(home), staging(home) as restore:
        summary, contents = _staged(source, restore.folder, identities, say)
        given = _given(home, restore.folder)
        summary.told = bring_home(restore.folder, summary.elsewhere, home)
        settings = load_settings(home if given else restore.folder)
        summary.told += _misled(restore.folder, home, settings)
        with _loading(restore.folder, settings, contents, say):
            shutil.rmtree(restore.folder / FOLDER, ignore_errors=True)
            restore.place()
    return summary


def _nearest(home: Path) -> Path:
    """The home, or the folder above in which it would be made."""
    while not home.is_dir():
        home = home.parent
    return home


def _staged(
    source: Path, folder: Path, identities: Sequence[Any], say: Callable[[str], None]
) -> tuple[Summary, Contents | None]:
    """Extract and check everything; what of PostgreSQL is in it is None for a backup of SQLite."""
    summary = _extract(source, folder, identities)
    for member in summary.members:
        _check_database(folder / member.path, member.path, say)
    file = folder / CONTENTS
    if not file.exists():
        return summary, None
    contents = Contents.read(file.read_bytes())
    check(contents)
    return summary, contents


def _given(home: Path, folder: Path) -> bool:
    """Whether there are settings in the home to be; they go before those of the backup."""
    if not (home / SETTINGS).exists():
        return False
    (folder / SETTINGS).unlink(missing_ok=True)
    with suppress(OSError):  # where they are mounted, whoever did so sees to their mode
        (home / SETTINGS).chmod(0o600)
    return True


def _misled(folder: Path, home: Path, settings: Settings) -> list[str]:
    """What to say of settings that lead away from what is restored, in the home's own file or in a variable."""
    return [
        f"{setting} names {place}: move there what is in {home / DEFAULTS[setting]}, or drop the setting"
        for setting, place in elsewhere(home, settings).items()
        if (folder / DEFAULTS[setting]).is_dir()
    ]


@contextmanager
def _loading(folder: Path, settings: Settings, contents: Contents | None, say: Callable[[str], None]) -> Iterator[None]:
    """Bring back what is in PostgreSQL, kept if what is done meanwhile ends well."""
    if contents is None:
        if settings.database:
            raise DatabaseKindError(
                "the backup is of SQLite databases; leave `database` empty, here and when you start"
            )
        yield
        return
    if not settings.database:
        raise DatabaseKindError(
            "the backup is of a PostgreSQL database; name an empty one in TIATION_DATABASE, or in a tiation.yaml that "
            "you put in the home before"
        )
    with loading(settings.database, folder, contents, say):
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
    if path.is_absolute() or ".." in path.parts or not path.parts or is_left(str(path)):
        raise ArchiveError(f"{source} holds {info.name[:100]!r}, which is no place for a file; it was not made here")
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
        return Summary(str(document["release"]), members, _known_places(document.get("elsewhere", {}), members))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ArchiveError(f"{source}: its manifest cannot be read; it was not made here", file=source) from None


def _known_places(places: dict[str, str], members: Sequence[Member]) -> dict[str, str]:
    """The folders from elsewhere; a ValueError where members are of another one."""
    used = {PurePosixPath(member.path).parts[1] for member in members if member.path.startswith(f"{ELSEWHERE}/")}
    if not used <= set(places) <= set(DEFAULTS):
        raise ValueError
    return {setting: str(place) for setting, place in places.items()}


def _check_database(path: Path, name: str, say: Callable[[str], None]) -> None:
    if not is_database(path):
        return
    say(f"  checking {name}")
    with closing(sqlite3.connect(path)) as database:
        result = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if result != "ok":
        raise ArchiveError(f"{name} is damaged in the backup ({result}); take an earlier one", file=name)
