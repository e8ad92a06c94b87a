"""What of a home goes into a backup, and in which order, so that a copy made while everything runs is consistent.

Whoever calls is copied before whom it calls: a restored run may do a step again whose effect is there already, and
finds it by its key; it never believes in an effect that is not there. Records are copied along their way, spool first
and security last, so that each is in the copy once at least; security knows a record by its uid.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["COPIES", "in_order", "is_database", "spools", "what_spools_come_before"]

COPIES = "before-upgrade-"
"""How folders in the home begin that hold copies of databases from before their schemas were changed."""

_MADE_ANEW = frozenset(
    {
        "lock",
        "token",
        "gateway.json",
        "logs",
        "supervisor",
        "gateway",
        "svid.json",
        "policy.json",
        "prometheus.json",
        "prometheus-targets.json",
    }
)
"""What the platform makes at every start, or may not outlive it: certificates, sockets, tokens, kept policies."""
_PASSING = (".upload-", COPIES)
"""How the names begin of what is half done, or kept for a while only."""
_SIDECARS = ("-wal", "-shm", "-journal")
_MAGIC = b"SQLite format 3\x00"
_CALLERS_FIRST = ("orchestrator", "engine", "integration", "analytics", "security")


def in_order(home: Path) -> Iterator[Path]:
    """Every file to keep, in the order in which they have to be copied; some may be gone when they are looked at.

    Files that entries of a database speak of, a model's weights, come after the databases: they were there before their
    entry was. What comes last is looked for last.
    """
    yield from spools(home)
    yield from what_spools_come_before(home)


def what_spools_come_before(home: Path) -> Iterator[Path]:
    """Every file but the spools. What is in PostgreSQL is copied before them: its services are who calls."""
    databases = [path for path in _files(home) if is_database(path)]
    yield from sorted(databases, key=lambda path: _place(home, path))
    yield from (path for path in _files(home) if not _is_spool(path) and not is_database(path))


def is_database(path: Path) -> bool:
    """Whether a file is a SQLite database."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _files(home: Path) -> list[Path]:
    """The files that may be kept, by name."""
    found = []
    for path in sorted(home.rglob("*")):
        parts = path.relative_to(home).parts
        if any(part in _MADE_ANEW or part.startswith(_PASSING) for part in parts):
            continue
        if path.is_symlink() or not path.is_file() or path.name.endswith(_SIDECARS):
            continue
        found.append(path)
    return found


def spools(home: Path) -> Iterator[Path]:
    """The spool's files of every service; one that is being sealed is found under its other name."""
    for folder in sorted(path for path in home.iterdir() if path.is_dir()):
        yield folder / "records.spool"
        yield folder / "records.sealed"


def _is_spool(path: Path) -> bool:
    return path.name in ("records.spool", "records.sealed")


def _service(home: Path, path: Path) -> str:
    """The service whose folder a file is in; replicas count as their service."""
    return path.relative_to(home).parts[0].partition("-")[0]


def _place(home: Path, path: Path) -> tuple[int, bool, str]:
    """Where a database stands in the order: by service, a service's own before what it writes to for others."""
    service = _service(home, path)
    at = _CALLERS_FIRST.index(service) if service in _CALLERS_FIRST else len(_CALLERS_FIRST)
    return at, path.stem != service, str(path)
