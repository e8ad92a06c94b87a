"""Models and their versions, as they are kept and shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mesh.entries import Entry

__all__ = ["File", "Model", "ModelVersion", "Spec", "loading_order", "specs_of", "version_name"]


class File(msgspec.Struct, frozen=True):
    """One file of a version: name, bytes, SHA-256 in hexadecimal."""

    path: str
    size_bytes: int
    sha256: str


class Spec(msgspec.Struct, frozen=True):
    """An input or output; -1 stands for any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Model(msgspec.Struct, frozen=True):
    """A model: `latest` is its newest version."""

    latest: int = 0


class ModelVersion(msgspec.Struct, frozen=True):
    """One version.

    Attributes:
        kind: of its manifest.
        files: what was pushed.
        inputs: what it takes.
        outputs: what it gives.
        wanted: whether it shall be in memory.
        failure: why it is not, though it shall be.
    """

    kind: str
    files: tuple[File, ...]
    inputs: tuple[Spec, ...] = ()
    outputs: tuple[Spec, ...] = ()
    wanted: bool = True
    failure: str = ""


def version_name(model: str, version: int) -> str:
    """The name of a model's version."""
    return f"{model}/versions/{version}"


def specs_of(specs: Sequence[Any]) -> tuple[Spec, ...]:
    """A servable's inputs or outputs as they are kept."""
    return tuple(Spec(spec.name, spec.datatype, tuple(spec.shape)) for spec in specs)


def loading_order(entry: Entry[ModelVersion]) -> int:
    """What others stand on comes first."""
    return {"onnx": 0, "text-embedding": 1, "text-classification": 2}.get(entry.body.kind, 3)
