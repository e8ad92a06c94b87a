"""What a graph's columns are called: said in the manifest, in the exporter's config.json, or in the graph itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from engine.errors import ManifestError, ModelFileError

__all__ = ["names_of", "written_names"]

_CONFIG = "config.json"
_MAX_BYTES = 4 * 1024 * 1024
_SHOWN = 20


def names_of(
    folder: Path, said: Sequence[str], classes: Sequence[tuple[str, ...]], width: int, output: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of so many columns, and the line of the manifest that would say them.

    Args:
        folder: of the version.
        said: in the manifest; empty where it says nothing.
        classes: lists of classes that are written in the graph's file.
        width: how many columns there are.
        output: the output that has them.

    Raises:
        ManifestError: there is another number of names than of columns, or none anywhere.
        ModelFileError: config.json cannot be read.
    """
    if said:
        if len(said) != width:
            raise ManifestError(f"labels: {len(said)} names, but `{output}` has {width} columns")
        return tuple(said), ()
    names = written_names(folder, classes, width)
    if not names:
        example = ", ".join(f"label-{at}" for at in range(min(width, 3))) + (", …" if width > 3 else "")
        raise ManifestError(
            f"add a name for each of the {width} columns of `{output}` to model.yaml, in order: `labels: [{example}]`"
        )
    return names, (f"labels: [{', '.join(names)}]" if width <= _SHOWN else f"labels: {width} in the files",)


def written_names(folder: Path, classes: Sequence[tuple[str, ...]], width: int) -> tuple[str, ...]:
    """The names of so many columns that are written in config.json or the graph; nothing where there are none.

    Raises:
        ModelFileError: config.json cannot be read.
    """
    return next((names for names in (_in_config(folder), *classes) if len(names) == width), ())


def _in_config(folder: Path) -> tuple[str, ...]:
    """`id2label` of the file that Hugging Face's exporters lay beside a graph; nothing where there is none."""
    path = folder / _CONFIG
    if not path.is_file():
        return ()
    if path.stat().st_size > _MAX_BYTES:
        raise ModelFileError(f"{_CONFIG}: is larger than {_MAX_BYTES} bytes", file=_CONFIG)
    try:
        names = json.loads(path.read_bytes()).get("id2label") or {}
        return tuple(str(names[str(at)])[:256] for at in range(len(names)))
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise ModelFileError(
            f"{_CONFIG}: `id2label` is no object from 0, 1, … to names; correct it, or leave the file out", file=_CONFIG
        ) from None
