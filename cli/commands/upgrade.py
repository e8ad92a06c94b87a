"""`upgrade`: the schemas of a home's databases, brought to this release's or to earlier ones."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.holding import UPGRADE
from cli.home import Home, NotRunningError
from cli.options import home_option, output_option
from cli.output import print_table

if TYPE_CHECKING:
    from cli.schemas import Move

__all__ = ["upgrade"]


@click.command()
@click.option("--check", is_flag=True, help="Only show what there is to do; exits 1 where there is something.")
@click.option(
    "--to", "targets", multiple=True, metavar="REVISION",
    help="Bring the schema that has this revision to it, forward or back, and no other; repeatable.",
)  # fmt: skip
@click.option(
    "--undo", "copies", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Put the databases back that an upgrade has copied to this folder; what came after them is lost.",
)  # fmt: skip
@home_option
@output_option
def upgrade(targets: tuple[str, ...], copies: Path | None, home: Home, *, check: bool, output: str) -> None:
    """Bring the databases of a stopped platform to this release's schemas.

    A service does this by itself when it starts; here it can be seen before, and undone for the sake of an earlier
    release. Going back drops what only the later schema can hold. SQLite databases are copied aside first; of a
    PostgreSQL database take a backup.

    \b
    Example:
      tiation upgrade --check
      tiation upgrade --to security_0001
      tiation upgrade --undo .tiation/before-upgrade-20260101T120000.000000Z
    """  # noqa: D301 -- \b is click's
    if copies is not None and (check or targets):
        raise click.UsageError("--undo goes with neither --check nor --to")
    home.check_whole()
    if not (home.path / "security").is_dir():
        raise NotRunningError(f"{home.path} is no home of a platform; give one with --home")
    if copies is not None:
        _undo(home, copies, output)
        return
    from cli.schemas import bring, plan
    from mesh.config import load_settings

    settings = load_settings(home.path)

    def say(text: str) -> None:
        click.echo(text, err=True)

    with _held(home, held=not check):
        moves = plan(home, settings, list(dict.fromkeys(targets)), say)
        needed = any(each.is_needed for each in moves)
        if needed and not check:
            if settings.database:
                say("PostgreSQL is not copied aside: `tiation backup` or pg_dump saves what this cannot bring back")
            copies = bring(home, settings, moves, say)
    _tell(home, moves, copies, output, check=check)
    if check and needed:
        raise click.exceptions.Exit(1)


def _undo(home: Home, copies: Path, output: str) -> None:
    """Bring databases back to how they were before an upgrade."""
    from cli.copies import put_back

    with _held(home, held=True):
        services = put_back(home, copies)
    if output == "json":
        click.echo(json.dumps({"put_back": services, "copies": str(copies)}))
    else:
        click.echo(f"put back from {copies}: {', '.join(services)}")


@contextmanager
def _held(home: Home, *, held: bool) -> Iterator[None]:
    """Keep a platform from starting on the home meanwhile, where that is asked for."""
    descriptor = home.hold(UPGRADE) if held else None
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _tell(home: Home, moves: list[Move], copies: Path | None, output: str, *, check: bool) -> None:
    if output == "json":
        rows = [
            {"service": m.service, "schema": m.schema, "from": m.at, "to": m.to, "what": _what(m, check=check)}
            for m in moves
        ]
        click.echo(json.dumps({"schemas": rows, "copies": str(copies) if copies else None}, indent=2))
        return
    if not moves:
        click.echo("there is no database yet; `tiation up` makes them")
        return
    print_table(
        ("service", "schema", "from", "to", ""),
        [(m.service, m.schema, m.at or "-", m.to or "-", _what(m, check=check)) for m in moves],
    )
    if copies:
        click.echo(
            f"\nthe databases as they were before are in {copies}; remove it when all is well, or put them back:\n"
            f"tiation upgrade --undo {shlex.quote(str(copies))} --home {shlex.quote(str(home.path))}"
        )


def _what(move: Move, *, check: bool) -> str:
    if not move.is_needed:
        return "stays"
    way = "back" if move.back else "forward"
    return f"to go {way}" if check else f"gone {way}"
