"""Manifests of models that read rows of named columns."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from engine.errors import ManifestError
from engine.manifest.fields import FileName, Label, Labels
from engine.manifest.scheduling import GraphManifest

__all__ = ["Column", "TabularManifest"]

_Cell: TypeAlias = float | bool | Annotated[str, msgspec.Meta(max_length=8192)] | None


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column of a table.

    Attributes:
        name: what it is called in a request.
        categories: the texts that it may hold; any where there are none.
        missing: what stands for a missing value, `nan` where the graph deals with that itself; without it one is
            refused.
    """

    name: Label
    categories: Labels = ()
    missing: float | Annotated[str, msgspec.Meta(max_length=8192)] | None = None


class TabularManifest(GraphManifest, frozen=True, tag="tabular"):
    """A graph that reads rows: tensors in and out as it says, and rows of named values in requests of our own.

    Attributes:
        file: the ONNX file; without it the only one there is.
        columns: in the order of the graph's inputs, and of the columns of each; a name, or `{name: …, missing: …}`.
            Without it an input of one column is called like the input, others `input.0`, `input.1`, ….
        task: `classification`, or `regression`; without it seen from the outputs.
        label: as of the kind `onnx`.
        probabilities: as above.
        labels: as above.
        output: of a regression, the output with its numbers; without it the only one.
        background: rows that an explanation compares with, each an object of a value a column.
    """

    file: FileName | None = None
    columns: Annotated[tuple[Label | Column, ...], msgspec.Meta(max_length=4096)] = ()
    task: Literal["classification", "regression"] | None = None
    label: str = ""
    probabilities: str = ""
    labels: Labels = ()
    output: str = ""
    background: Annotated[tuple[dict[Label, _Cell], ...], msgspec.Meta(max_length=256)] = ()

    @property
    def described(self) -> tuple[Column, ...]:
        """The columns, each with what is said of it."""
        return tuple(each if isinstance(each, Column) else Column(each) for each in self.columns)

    def check(self) -> None:
        """Each column once, and a stand-in that is one of its categories.

        Raises:
            ManifestError: it does not hold.
        """
        names = [each.name for each in self.described]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ManifestError(f"columns: `{twice}` is there twice")
        for each in self.described:
            if each.categories and each.missing is not None and each.missing not in each.categories:
                raise ManifestError(f"columns: what stands for a missing `{each.name}` is none of its categories")
