"""Models and their versions, as they are kept and shown."""

from __future__ import annotations

import msgspec

__all__ = ["File", "Model", "ModelVersion", "Spec", "version_name"]


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
        inferred: what its manifest left out and its files told, as lines of the manifest.
    """

    kind: str
    files: tuple[File, ...]
    inputs: tuple[Spec, ...] = ()
    outputs: tuple[Spec, ...] = ()
    wanted: bool = True
    failure: str = ""
    inferred: tuple[str, ...] = ()


def version_name(model: str, version: int) -> str:
    """The name of a model's version."""
    return f"{model}/versions/{version}"
