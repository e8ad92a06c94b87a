"""The `tiation` command: its groups, loaded when they are used, and how errors read."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import click

from cli import FAILURE
from mesh.errors import TiationError

__all__ = ["main"]

_COMPLETING = "_TIATION_COMPLETE"
"""Set while a shell asks how a line goes on."""
_COMMANDS = {
    "up": "cli.commands.platform:up",
    "down": "cli.commands.platform:down",
    "status": "cli.commands.platform:status",
    "logs": "cli.commands.platform:logs",
    "serve": "cli.commands.platform:serve",
    "token": "cli.commands.tokens:token",
    "agents": "cli.commands.agents:agents",
    "run": "cli.commands.agents:run",
    "runs": "cli.commands.runs:runs",
    "schedules": "cli.commands.schedules:schedules",
    "approvals": "cli.commands.approvals:approvals",
    "models": "cli.commands.models:models",
    "decisions": "cli.commands.decisions:decisions",
    "connections": "cli.commands.connections:connections",
    "principals": "cli.commands.principals:principals",
    "groups": "cli.commands.groups:groups",
    "roles": "cli.commands.roles:roles",
    "bindings": "cli.commands.bindings:bindings",
    "keys": "cli.commands.keys:keys",
    "access": "cli.commands.access:access",
    "records": "cli.commands.records:records",
    "top": "cli.commands.top:top",
    "backup": "cli.commands.backup:backup",
    "restore": "cli.commands.backup:restore",
    "upgrade": "cli.commands.upgrade:upgrade",
    "doctor": "cli.commands.doctor:doctor",
    "completion": "cli.commands.completion:completion",
}


class _Lazy(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """The commands in the order in which they are used first."""
        return list(_COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """One command."""
        if name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        if _COMPLETING in os.environ:
            from cli.naming import complete_names

            complete_names(command)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="tiation", message="tiation %(version)s")
def cli() -> None:
    """Run AI agents inside your own walls.

    \b
    tiation up                                        start the platform on this machine
    tiation models push my-model/                     bring a model
    tiation agents apply agent.yaml                   bring an agent
    tiation run support-triage --input '{"id": "1"}'  let it work
    tiation records list                              see who did what
    tiation top                                       see what happens now
    tiation down                                      stop

    Every command takes --home (where the platform keeps its state) and --output (table or json).
    Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
    """  # noqa: D301 -- \b is click's


def main() -> None:
    """Run the command; errors are one line that says what to do."""
    try:
        # Without click's own error handling a command's `Exit` comes back as a number instead of being raised.
        sys.exit(cli(standalone_mode=False))
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except TiationError as error:
        click.echo(f"{FAILURE}{error.message}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read has enough; nothing may be flushed into the closed pipe when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        click.echo(f"{FAILURE}{_local(error)}", err=True)
        sys.exit(1)
    except Exception as error:
        text = _remote(error)
        if text is None:
            raise
        click.echo(f"{FAILURE}{text}", err=True)
        sys.exit(1)


def _local(error: OSError) -> str:
    """What this machine refused, with what to do about it."""
    text = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        text += "; make room, or choose a home on another disk with --home"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        text += "; choose a home that you may write to with --home"
    return f"{error.filename}: {text}" if error.filename else text


def _remote(error: Any) -> str | None:  # noqa: ANN401 -- any exception
    """What a service answered, as a line; None where the error is none of a service."""
    if "grpc" not in sys.modules:
        return None
    from cli.client import explain

    return explain(error)


if __name__ == "__main__":
    main()
