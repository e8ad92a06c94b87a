"""The `tiation` command: its groups, loaded when they are used, and how errors read."""

from __future__ import annotations

import importlib
import os
import sys

import click

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
    "bandits": "cli.commands.bandits:bandits",
    "rank": "cli.commands.rank:rank",
    "connections": "cli.commands.connections:connections",
    "webhooks": "cli.commands.webhooks:webhooks",
    "tenants": "cli.commands.tenants:tenants",
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
    tiation up --detach                                          start the platform on this machine
    tiation models push examples/support-triage/support-intents  bring a model
    tiation agents apply examples/support-triage/agent.yaml      bring an agent
    tiation run support-triage --follow \\
      --input @examples/support-triage/message.json              let it work
    tiation records list                                         see who did what
    tiation top                                                  see what happens now
    tiation down                                                 stop

    All that this agent needs is in examples/support-triage/README.md.

    Every command takes --home (where the platform keeps its state) and --output (table or json); the variables
    TIATION_HOME and TIATION_OUTPUT say the same for all of them.
    Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
    """  # noqa: D301 -- \b is click's


def main() -> None:
    """Run the command; errors are one line that says what to do."""
    try:
        # Without click's own error handling a command's `Exit` comes back as a number instead of being raised.
        sys.exit(cli(standalone_mode=False))
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read has enough; nothing may be flushed into the closed pipe when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # said in one line where it is known, raised again where it is not
        from cli.failure import say_failure

        code = say_failure(error, sys.argv, os.environ)
        if code is None:
            raise
        sys.exit(code)


if __name__ == "__main__":
    main()
