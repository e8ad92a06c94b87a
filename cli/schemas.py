"""The schemas of a home's databases: where each stands, and bringing them to other revisions while nothing runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import Engine

from cli.copies import copy_aside
from cli.home import Home
from mesh.config import SERVICES, Settings
from mesh.db import await_database, open_database
from mesh.errors import Code, TiationError
from mesh.revisions import MigrationError, known_revisions, move, place_of, revisions

__all__ = ["Move", "RevisionUnknownError", "bring", "migration_sets", "plan", "records_waiting"]

_PATIENCE_S = 5.0


class RevisionUnknownError(TiationError):
    """No set of migrations has the revision that was asked for, or two of one set were."""

    code = Code.INVALID_ARGUMENT
    reason = "REVISION_UNKNOWN"


@dataclass(frozen=True, slots=True)
class Move:
    """One set of migrations in one service's database: where it stands and where it is to stand.

    Attributes:
        service: whose database it is.
        schema: the set: `mesh`, which every service has, or the service's own.
        versions: its folder.
        table: where the database remembers its revision.
        at: the revision, empty before the first.
        to: the revision wanted.
        back: whether that is an older one.
    """

    service: str
    schema: str
    versions: Path
    table: str
    at: str
    to: str
    back: bool

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do."""
        return self.at != self.to


def migration_sets(service: str) -> Iterator[tuple[str, Path, str]]:
    """The sets of migrations in a service's database, in the order in which they are run: name, folder, table."""
    for package, table in (("mesh", "mesh_version"), (service, "alembic_version")):
        found = find_spec(package)
        folder = Path(found.origin or "").parent / "migrations" / "versions" if found else Path()
        if found and folder.is_dir():
            yield package, folder, table


def plan(home: Home, settings: Settings, targets: Sequence[str], say: Callable[[str], None]) -> list[Move]:
    """Where every database stands, and where it is to go; databases that no service has made yet are left out.

    Args:
        home: of the platform.
        settings: everything the operator said.
        targets: revisions; a set of which none is named stays where it is. None at all means the newest of each.
        say: told when PostgreSQL is waited for.

    Raises:
        RevisionUnknownError: a target is none of this release's.
        MigrationError: a newer release has made a database.
        DatabaseUnreadableError: a database is damaged.
    """
    _check(targets)
    found = []
    for service in SERVICES:
        with _engine(home, settings, service, say) as engine:
            if engine is None:
                continue
            moves = [_move(engine, service, each, targets) for each in migration_sets(service)]
        if any(each.at for each in moves):
            found += moves
    return found


def bring(home: Home, settings: Settings, moves: Sequence[Move], say: Callable[[str], None]) -> Path | None:
    """Make the moves: each database wholly or not at all. The caller holds the home.

    Returns:
        The folder with copies of the SQLite databases that were moved; None where there was none to copy.
    """
    needed = [each for each in moves if each.is_needed]
    services = dict.fromkeys(each.service for each in needed)
    copies = None if settings.database or not needed else copy_aside(home, list(services))
    if copies:
        say(f"copied the databases as they are now to {copies}")
    # A service's own migrations may build on what every service has: they come after it, and go before it.
    ordered = [*(each for each in reversed(needed) if each.back), *(each for each in needed if not each.back)]
    for service in services:
        with _engine(home, settings, service, say) as engine:
            if engine is not None:
                move(engine, [(each.versions, each.table, each.to) for each in ordered if each.service == service])
    return copies


def _move(engine: Engine, service: str, of: tuple[str, Path, str], targets: Sequence[str]) -> Move:
    schema, versions, table = of
    at = revisions(engine, versions, version_table=table)
    if at.is_of_newer_release:
        raise MigrationError(
            f"{place_of(engine)} ({service}) stands at `{at.current}`, which this release does not know: a newer one "
            "made it; use that one, or restore a backup of this one's",
            revision=at.current,
        )
    named = [target for target in targets if target in at.known]
    to = named[0] if named else (at.current if targets else at.known[-1])
    if not at.current and targets:
        to = at.current  # nothing is made for the sake of an older revision
    return Move(service, schema, versions, table, at.current, to, bool(at.current) and at.is_back(to))


def _check(targets: Sequence[str]) -> None:
    """Refuse what names nothing, or two places for one thing."""
    of: dict[str, Path] = {}
    for service in SERVICES:
        for _, versions, _ in migration_sets(service):
            of |= dict.fromkeys(known_revisions(versions), versions)
    for target in targets:
        if target not in of:
            raise RevisionUnknownError(
                f"there is no revision `{target}`; this release knows {', '.join(sorted(of))}", revision=target
            )
    if len({of[target] for target in targets}) < len(set(targets)):
        raise RevisionUnknownError("two revisions of one schema are named with --to; name one of each")


@contextmanager
def _engine(home: Home, settings: Settings, service: str, say: Callable[[str], None]) -> Iterator[Engine | None]:
    """A service's database; None where there is none yet."""
    file = home.path / service / f"{service}.db"
    if not settings.database and not file.exists():
        yield None
        return
    location = settings.database or f"sqlite:///{file}"
    await_database(location, say, patience_s=_PATIENCE_S)
    database = open_database(location, schema=service)
    try:
        yield database.engine
    finally:
        asyncio.run(database.close())


def records_waiting(home: Home, settings: Settings) -> dict[str, int]:
    """How many records lie in each service's database and have not reached security yet."""
    from sqlalchemy import inspect

    found = {}
    for service in SERVICES:
        with _engine(home, settings, service, lambda _: None) as engine:
            if engine is not None and inspect(engine).has_table("call_records"):
                with engine.connect() as connection:
                    count = connection.exec_driver_sql("SELECT count(*) FROM call_records").scalar_one()
                    found[service] = int(count)
    return found
