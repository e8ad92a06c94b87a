"""What of a home goes into a backup, and in which order, so that a copy made while everything runs is consistent.

Whoever calls is copied before whom it calls: a restored run may do a step again whose effect is there already, and
finds it by its key; it never believes in an effect that is not there. Records are copied along their way, spool first
and security last, so that each is in the copy once at least; security knows a record by its uid.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.backup.scratch import SCRATCH
from mesh.config import SERVICES

__all__ = ["COPIES", "ELSEWHERE", "POSTGRES", "Kept", "Survey", "is_database", "is_left"]

COPIES = "before-upgrade-"
"""How folders in the home begin that hold copies of databases from before their schemas were changed."""
POSTGRES, ELSEWHERE = "postgres", "elsewhere"
"""Where in a backup lies what is in PostgreSQL, and what is in folders that settings put elsewhere."""

_NOT_KEPT = frozenset({"lock", "token", "gateway.json", "logs", "supervisor", "gateway", ".restoring"})
"""In the home: what the platform makes at every start, or may not outlive it."""
_NOT_KEPT_OF_A_PROCESS = frozenset({"svid.json", "policy.json", "prometheus.json", "prometheus-targets.json"})
"""In the folder of a service's process, or in that of the figures."""
_PASSING = (COPIES, SCRATCH)
"""How the names begin of what is in the home for a while only."""
_UPLOAD = ".upload-"
_MODELS = (("engine", "models"), (ELSEWHERE, "engine.models"))
"""Where uploads may lie that are half done."""
_LOST = "lost+found"
"""A file system's own folder, for root alone, wherever one is mounted."""
_SIDECARS = ("-wal", "-shm", "-journal")
_MAGIC = b"SQLite format 3\x00"
_CALLERS_FIRST = ("orchestrator", "engine", "integration", "analytics", "security")
_SPOOLS = ("records.spool", "records.sealed")
"""One that is being sealed is found under its other name."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A file to keep: where it lies, and its name in the backup."""

    path: Path
    name: str


class Survey:
    """Looks for what is to be kept.

    Args:
        home: the state folder.
        elsewhere: the folders of its state that settings put elsewhere, by the setting's name.

    Attributes:
        left_out: what could not be kept, with the reason.
    """

    def __init__(self, home: Path, elsewhere: Mapping[str, Path]) -> None:
        self.left_out: dict[str, str] = {}
        self._home = home
        self._elsewhere = elsewhere
        self._apart = {_identity(path.stat()) for path in (home, *elsewhere.values()) if path.is_dir()}

    def in_order(self) -> Iterator[Kept]:
        """Every file to keep, in the order in which they have to be copied; some may be gone when they are looked at.

        Files that entries of a database speak of, a model's weights, come after the databases: they were there before
        their entry was. What comes last is looked for last.
        """
        yield from self.spools()
        yield from self.what_spools_come_before()

    def spools(self) -> Iterator[Kept]:
        """The spool's files of every service's process."""
        for folder in sorted(path for path in self._home.iterdir() if path.is_dir() and not is_left(path.name)):
            for name in _SPOOLS:
                yield Kept(folder / name, f"{folder.name}/{name}")

    def what_spools_come_before(self) -> Iterator[Kept]:
        """Every file but the spools. What is in PostgreSQL is copied before them: its services are who calls."""
        yield from sorted((each for each in self._files() if is_database(each.path)), key=_place)
        for each in list(self._files()):
            if not is_database(each.path) and not _is_spool(each.name):
                yield each

    def _files(self) -> Iterator[Kept]:
        """The files that may be kept, by name."""
        yield from self._below(self._home, "", frozenset({_identity(self._home.stat())}))
        for setting, folder in self._elsewhere.items():
            if folder.is_dir():
                yield from self._below(folder, f"{ELSEWHERE}/{setting}", frozenset({_identity(folder.stat())}))
            else:
                self.left_out[str(folder)] = f"is named by {setting} and is no folder that is there"

    def _below(self, folder: Path, name: str, above: frozenset[tuple[int, int]]) -> Iterator[Kept]:
        """The files in a folder and its folders. Links are followed: what they lead to belongs to the state too."""
        for path in _listed(folder):
            below = f"{name}/{path.name}" if name else path.name
            if is_left(below):
                continue
            if below in (POSTGRES, ELSEWHERE):
                self.left_out[str(path)] = "has a name that backups use themselves"
                continue
            at = self._look(path)
            if at is None:
                continue
            if stat.S_ISREG(at.st_mode) and not _is_sidecar(path):
                yield Kept(path, below)
            elif stat.S_ISDIR(at.st_mode) and _identity(at) in above:
                self.left_out[str(path)] = "is a link to a folder that it is in"
            elif stat.S_ISDIR(at.st_mode) and _identity(at) not in self._apart:
                yield from self._below(path, below, above | {_identity(at)})

    def _look(self, path: Path) -> os.stat_result | None:
        try:
            return path.stat()
        except OSError:
            if path.is_symlink():
                self.left_out[str(path)] = "is a link that leads nowhere"
                return None
            if not path.exists():
                return None
            raise


def is_database(path: Path) -> bool:
    """Whether a file is a SQLite database."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _identity(at: os.stat_result) -> tuple[int, int]:
    """By what a folder is known, whatever leads to it."""
    return at.st_dev, at.st_ino


def _listed(folder: Path) -> list[Path]:
    """What is in a folder, by name; nothing where it has moved on since it was listed itself."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except PermissionError:
        if folder.name != _LOST:
            raise
        return []


def is_left(name: str) -> bool:
    """Whether a name, as it is below the home or in the backup, is of what needs no copy."""
    first, *rest = parts = tuple(name.split("/"))
    if not rest:
        return first in _NOT_KEPT or first.startswith(_PASSING)
    if len(rest) == 1:
        return rest[0] in _NOT_KEPT_OF_A_PROCESS and (_service(first) in SERVICES or first == "metrics")
    return len(rest) == 2 and parts[:2] in _MODELS and rest[1].startswith(_UPLOAD)


def _is_sidecar(path: Path) -> bool:
    """Whether a file is a journal of the database beside it, whose copy has what is in it."""
    return any(
        path.name.endswith(ending) and is_database(path.with_name(path.name.removesuffix(ending)))
        for ending in _SIDECARS
    )


def _is_spool(name: str) -> bool:
    return name.partition("/")[2] in _SPOOLS


def _service(folder: str) -> str:
    """The service of a process's folder, or of a setting; replicas count as their service."""
    return folder.partition("-")[0].partition(".")[0]


def _place(database: Kept) -> tuple[int, bool, str]:
    """Where a database stands in the order: by service, a service's own before what it writes to for others."""
    first, _, rest = database.name.removeprefix(f"{ELSEWHERE}/").partition("/")
    service = _service(first)
    at = _CALLERS_FIRST.index(service) if service in _CALLERS_FIRST else len(_CALLERS_FIRST)
    return at, rest != f"{service}.db" or database.name.startswith(ELSEWHERE), database.name
