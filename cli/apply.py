"""Bringing a file's resource to the platform: reading the file, and saying what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from google.protobuf.message import Message

from cli.client import FileError
from cli.output import print_one

__all__ = ["read_document", "say_applied"]


def read_document(file: Path) -> dict[str, Any]:
    """What a YAML or JSON file holds.

    Raises:
        FileError: it is no such file, or holds something else than named values.
    """
    try:
        document = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FileError(f"{file}: neither YAML nor JSON: {error}", file=file) from None
    if not isinstance(document, dict):
        raise FileError(f"{file}: must hold `name: value` lines", file=file)
    return document


def say_applied(resource: Any, what: str, output: str) -> None:  # noqa: ANN401 -- any resource's message
    """Print what became of a resource: created, changed, unchanged."""
    message: Message = resource
    print_one(message, output, f"{resource.name} {what}")
