"""How the command says that it failed: a line for people or JSON for programs, both on standard error."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from cli import FAILURE
from mesh.errors import Code, TiationError

__all__ = ["say_failure"]


def say_failure(error: Exception, arguments: Sequence[str], environment: Mapping[str, str]) -> int | None:
    """Say what went wrong and what to do about it.

    Args:
        error: what ended the command.
        arguments: the command line; a command that could not be understood has not told its options.
        environment: of the process.

    Returns:
        The exit code; None where nothing was said, because the error is a mistake of ours.
    """
    as_json = _wants_json(arguments, environment)
    if isinstance(error, click.ClickException):
        if as_json:
            reason = "USAGE" if isinstance(error, click.UsageError) else "FAILED"
            _say_json("INVALID_ARGUMENT", reason, error.format_message())
        else:
            error.show()
        return error.exit_code
    found = _named(error)
    if found is None:
        return None
    code, reason, message, shown, more = found
    if as_json:
        _say_json(code, reason, message, **more)
    else:
        click.echo(f"{FAILURE}{shown}", err=True)
    return 1


def _named(error: Exception) -> tuple[str, str, str, str, dict[str, Any]] | None:
    """Code, reason, message, the line for people, and what else programs may want to know."""
    if isinstance(error, TiationError):
        known = {"metadata": error.metadata} if error.metadata else {}
        return Code(error.code).name, error.reason, error.message, error.message, known
    if isinstance(error, OSError):
        text = _local(error)
        return "FAILED_PRECONDITION", errno.errorcode.get(error.errno or 0, "OS"), text, text, {}
    if isinstance(error, UnicodeEncodeError):
        text = "an argument or a file holds bytes that are no UTF-8 text"
        return "INVALID_ARGUMENT", "TEXT_INVALID", text, text, {}
    if "grpc" not in sys.modules:
        return None
    from cli.client import explain, refusal_of

    refusal = refusal_of(error)
    if refusal is None:
        return None
    more: dict[str, Any] = {"violations": [{"field": field, "description": said} for field, said in refusal.violations]}
    return refusal.code, refusal.reason, refusal.message, explain(refusal), more if refusal.violations else {}


def _say_json(code: str, reason: str, message: str, **more: Any) -> None:  # noqa: ANN401 -- any JSON
    said = {"error": {"code": code, "reason": reason, "message": message, **more}}
    click.echo(json.dumps(said, ensure_ascii=False), err=True)


def _wants_json(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    wanted = environment.get("TIATION_OUTPUT", "")
    for at, argument in enumerate(arguments):
        if argument == "--output" and at + 1 < len(arguments):
            wanted = arguments[at + 1]
        elif argument.startswith("--output="):
            wanted = argument.removeprefix("--output=")
    return wanted == "json"


def _local(error: OSError) -> str:
    """What this machine refused, with what to do about it."""
    text = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        text += "; make room, or choose a home on another disk with --home"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        text += "; choose a home that you may write to with --home"
    return f"{error.filename}: {text}" if error.filename else text
