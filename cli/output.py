"""Printing: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
from google.protobuf.message import Message

from mesh.json_value import message_to_json

__all__ = ["as_json", "numbered", "print_json", "print_one", "print_table"]


def as_json(message: Message) -> Any:  # noqa: ANN401 -- any JSON
    """A message as the REST interface shows it."""
    return message_to_json(message)


def print_json(value: Any) -> None:  # noqa: ANN401 -- any JSON
    """Print a value."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in columns as wide as they need to be."""
    lines = [tuple(headings), *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(headings))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_one(message: Message, output: str, line: str) -> None:
    """Print one resource: the line for people, or all of it as JSON."""
    if output == "json":
        print_json(as_json(message))
    else:
        click.echo(line)


def numbered(count: int, noun: str) -> str:
    """So many of something, whose plural takes an s: `1 row`, `8 rows`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
