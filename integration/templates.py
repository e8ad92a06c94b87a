"""Expressions in a manifest: a text `${ … }` is a jq program, everything else is itself.

A value with expressions in it becomes one program for the whole value, so that it costs one call of the sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["program_in", "program_of", "programs_in"]

_ONE = 'def one_value: if length > 1 then error("an expression has several outputs") else .[0] end; '


def program_in(text: object) -> str | None:
    """The program in `${ … }`; None where the value is no expression."""
    if not isinstance(text, str):
        return None
    stripped = text.strip()
    return stripped[2:-1] if stripped.startswith("${") and stripped.endswith("}") else None


def programs_in(value: object, field: str) -> Iterator[tuple[str, str]]:
    """Every program in a value, with the field that holds it."""
    program = program_in(value)
    if program is not None:
        yield field, program
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from programs_in(each, f"{field}.{key}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for at, each in enumerate(value):
            yield from programs_in(each, f"{field}[{at}]")


def program_of(value: Any) -> str:  # noqa: ANN401 -- any JSON
    """One program that makes the value; an expression without output makes null. Empty where nothing is to be made."""
    return _ONE + _literal(value) if any(programs_in(value, "")) else ""


def _literal(value: Any) -> str:  # noqa: ANN401 -- any JSON
    program = program_in(value)
    if program is not None:
        return f"([({program}\n)] | one_value)"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {_literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_literal(each) for each in value) + "]"
    return json.dumps(value)
