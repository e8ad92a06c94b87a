"""`completion`: shell completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from cli.home import Home
from cli.options import home_option, output_option

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@home_option
@output_option
def completion(shell: str, home: Home, output: str) -> None:  # noqa: ARG001 -- every command takes both
    """Print what makes a shell complete the command: subcommands, options, and names of what the platform has.

    For good, once:

    \b
      bash   echo 'eval "$(tiation completion bash)"' >> ~/.bashrc
      zsh    echo 'eval "$(tiation completion zsh)"' >> ~/.zshrc      (after compinit)
      fish   tiation completion fish > ~/.config/fish/completions/tiation.fish

    \b
    Example:
      eval "$(tiation completion bash)"
    """  # noqa: D301 -- \b is click's
    from cli.main import cli

    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 -- the choice lists what click has
    click.echo(found(cli, {}, "tiation", "_TIATION_COMPLETE").source())
