"""Models and their versions, as they are kept and shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from engine.manifest import Manifest
from engine.tensor import TensorSpec
from mesh.catalogue import Catalogue
from mesh.db import Transaction
from mesh.entries import Entry
from mesh.pagination import Page

__all__ = ["File", "Model", "ModelCatalogue", "ModelVersion", "Spec", "description", "loading_order", "version_name"]

_ALL = Page(1_000_000, None)
"""A version's number is no higher."""


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


class ModelCatalogue(Catalogue):
    """Keeps models; a model's versions go with it."""

    def deleting(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Bury the versions in the transaction that buries their model."""
        if isinstance(entry.body, Model):
            for version in self._rows.below(transaction, ModelVersion, entry.name, _ALL):
                self._rows.bury(transaction, ModelVersion, version.name, forever=False)


def version_name(model: str, version: int) -> str:
    """The name of a model's version."""
    return f"{model}/versions/{version}"


class _Described(Protocol):
    """What a model in memory says of itself."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What it takes."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What it gives."""

    @property
    def inferred(self) -> Sequence[str]:
        """What its manifest left out."""


def description(manifest: Manifest, model: _Described, files: Sequence[File], *, wanted: bool = True) -> ModelVersion:
    """What is kept of a version that was opened."""
    inputs, outputs = (
        tuple(Spec(spec.name, spec.datatype, tuple(spec.shape)) for spec in specs)
        for specs in (model.inputs, model.outputs)
    )
    kind = str(manifest.__struct_config__.tag)
    return ModelVersion(kind, tuple(files), inputs, outputs, wanted=wanted, inferred=tuple(model.inferred))


def loading_order(entry: Entry[ModelVersion]) -> int:
    """What others stand on comes first."""
    return {"onnx": 0, "text-embedding": 1, "text-classification": 2}.get(entry.body.kind, 3)
