"""`doctor`: what is wrong, and how to mend it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from cli.doctor.finding import BAD, UNSURE, Finding, bad, good
from cli.home import Home
from cli.options import home_option, output_option

__all__ = ["doctor"]

_MARKS = {BAD: ("✗", "red"), UNSURE: ("!", "yellow")}


@click.command()
@home_option
@output_option
def doctor(home: Home, output: str) -> None:
    """Look at the machine, the home and the platform; say what is wrong and how to mend it.

    Changes nothing. Exits 1 where something is wrong.

    \b
    Example:
      tiation doctor --home /var/lib/tiation
    """  # noqa: D301 -- \b is click's
    found = []
    for finding in _look(home):
        found.append(finding)
        if output == "table":
            mark, colour = _MARKS.get(finding.state, ("✓", "green"))
            click.echo(f"{click.style(mark, fg=colour)} {finding.what:18} {finding.detail}")
            if finding.remedy:
                click.echo(f"  {'':18} → {finding.remedy}")
    wrong = sum(finding.state == BAD for finding in found)
    if output == "json":
        rows = [{"what": f.what, "state": f.state, "detail": f.detail, "remedy": f.remedy} for f in found]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        click.echo(f"\n{wrong} wrong, {sum(f.state == UNSURE for f in found)} to see to, {len(found)} looked at")
    if wrong:
        raise click.exceptions.Exit(1)


def _look(home: Home) -> Iterator[Finding]:
    """Everything, from what all else stands on to what stands on all else."""
    from cli.doctor.database import look_at_databases
    from cli.doctor.ends import look_at_ends
    from cli.doctor.machine import look_at_machine
    from cli.doctor.platform import look_at_platform
    from cli.doctor.state import is_whole, look_at_home
    from mesh.config import Settings, SettingsError, load_settings

    try:
        settings = load_settings(home.path)
        yield good("settings", "every one is known")
    except SettingsError as error:
        settings = Settings()
        yield bad("settings", error.message, f"correct {home.path / 'tiation.yaml'} or the variable")
    yield from look_at_machine(home, settings)
    yield from look_at_home(home, settings)
    if not is_whole(home):
        return  # there is no telling what is missing in the rest
    yield from look_at_databases(home, settings)
    yield from look_at_platform(home, settings)
    yield from look_at_ends(home, settings)
