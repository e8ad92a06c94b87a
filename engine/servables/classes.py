"""How labels are read from a graph's outputs: which holds them, which the probabilities, what they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import ManifestError
from engine.servables.base import Classified
from engine.tensor import Tensor, TensorSpec

__all__ = ["ClassReading", "NamesClasses", "read_classes"]

_NUMBERS = ("FP32", "FP64", "FP16")


class NamesClasses(Protocol):
    """What a manifest says of labels, in a graph's outputs; see `engine.manifest.tensors`."""

    @property
    def label(self) -> str:
        """The output with the chosen class."""

    @property
    def probabilities(self) -> str:
        """The output with a column a class."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What the columns are called."""


@dataclass(frozen=True, slots=True)
class ClassReading:
    """Reads labels from a graph's outputs.

    Attributes:
        probabilities: the output with a column a class.
        label: the output with the chosen class; empty where the most probable is the chosen one.
        names: of the columns; empty where their numbers are their names.
        inferred: what of it the manifest did not say, as lines of it.
    """

    probabilities: str
    label: str
    names: tuple[str, ...]
    inferred: tuple[str, ...]

    @property
    def columns_of(self) -> Mapping[str, Sequence[str]]:
        """What the columns of the output with probabilities are called."""
        return {self.probabilities: self.names}

    def read(self, outputs: Mapping[str, Tensor]) -> Classified:
        """The labels of a run's rows."""
        table: NDArray[np.float32] = np.asarray(outputs[self.probabilities], np.float32)
        names = self.names or tuple(str(column) for column in range(table.shape[1]))
        best = table.argmax(axis=1)
        if self.label:
            columns = {name: column for column, name in enumerate(names)}
            chosen = [_text(value) for value in outputs[self.label].ravel()]
            best = np.array([columns.get(label, at) for label, at in zip(chosen, best, strict=True)], np.int64)
        scores = table[np.arange(len(table)), best]
        return Classified([names[at] for at in best], scores, names, table)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def read_classes(
    manifest: NamesClasses, outputs: Sequence[TensorSpec], classes: Sequence[tuple[str, ...]]
) -> ClassReading | str:
    """How labels are read, or the reason why they are not: the line that the manifest lacks.

    Args:
        manifest: may name the outputs and the labels.
        outputs: of the graph.
        classes: lists of classes that are written in the file.

    Raises:
        ManifestError: it names an output that is not there, or another number of labels than there are classes.
    """
    by_name = {spec.name: spec for spec in outputs}
    for key, name in (("label", manifest.label), ("probabilities", manifest.probabilities)):
        if name and name not in by_name:
            raise ManifestError(f"{key}: the graph has no output `{name}`; it has {', '.join(by_name)}")
    tables = [spec.name for spec in outputs if len(spec.shape) == 2 and spec.datatype in _NUMBERS]
    chosen = [spec.name for spec in outputs if spec.datatype in ("INT64", "INT32", "BYTES") and len(spec.shape) <= 2]
    probabilities, label = manifest.probabilities, manifest.label
    if not probabilities:
        # Numbers in columns may be anything; beside a label, or with names for the columns, they are probabilities.
        if len(tables) != 1 or not (label or len(chosen) == 1 or manifest.labels):
            return f"add this line to model.yaml: `probabilities: {tables[0] if tables else 'OUTPUT'}`"
        probabilities = tables[0]
    if probabilities not in tables:
        raise ManifestError(f"probabilities: `{probabilities}` is no output of numbers with a row an item")
    label = label or (chosen[0] if len(chosen) == 1 else "")
    names = manifest.labels or _names(by_name[probabilities], classes)
    width = by_name[probabilities].shape[1]
    if names and width > 0 and len(names) != width:
        raise ManifestError(f"labels: {len(names)} names, but `{probabilities}` has {width} columns")
    if label and not names:
        example = "[first, second]" if width < 1 else f"[{', '.join(f'label-{at}' for at in range(min(width, 3)))}]"
        return f"add a name for each column of `{probabilities}` to model.yaml, in order: `labels: {example}`"
    lines = {"label": (manifest.label, label), "probabilities": (manifest.probabilities, probabilities)}
    inferred = [f"{key}: {found}" for key, (said, found) in lines.items() if found and not said]
    if names and not manifest.labels:
        inferred.append(f"labels: [{', '.join(names)}]" if len(names) <= 20 else f"labels: {len(names)} in the file")
    return ClassReading(probabilities, label, names, tuple(inferred))


def _names(table: TensorSpec, classes: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The classes in the file that fit the table's columns, if only one list does."""
    width = table.shape[1]
    fitting = {names for names in classes if width in (-1, len(names))}
    return fitting.pop() if len(fitting) == 1 else ()
