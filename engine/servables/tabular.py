"""A graph that reads rows of named values: labels, or numbers, and what each value did for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import ElementError, ExplanationError, ManifestError, NoLabelsError
from engine.explain.explainer import Explainer, Explanation, Matched, match
from engine.explain.reading import read_form
from engine.manifest import TabularManifest
from engine.repository.folders import graph_file
from engine.scheduler.aside import aside
from engine.scheduler.terms import PLAIN, Terms
from engine.servables.base import Classified, Inference, Items, Tensors, check_tensors
from engine.servables.classes import ClassReading, read_classes
from engine.servables.closing import closed_on_failure
from engine.servables.columns import Columns, Record, place
from engine.servables.context import ModelContext
from engine.servables.graph import Graph
from engine.servables.graph_backed import GraphBacked
from engine.tensor import Tensor, TensorSpec

__all__ = ["TabularModel"]

_MAX_EXPLAINED = 64
"""Rows of one request that are explained."""
_TRIED = 32
"""Rows with which it is tried at load whether a graph is the sum that its file says."""


class TabularModel(GraphBacked[Graph]):
    """A graph whose inputs are columns of a table, each for itself or several together.

    Args:
        context: its files and how they are to serve.

    Raises:
        ManifestError: what it leaves out cannot be seen in the graph; the message has the line to add.
        EngineError: the file is no graph that can be run.
    """

    classifies: Items | None = "rows"

    def __init__(
        self,
        context: ModelContext[TabularManifest],
    ) -> None:
        manifest = context.manifest
        path, inferred = graph_file(context.folder, manifest.file)
        self._graph = Graph(path, context)
        with closed_on_failure(self._graph):
            self.columns, lines = place(self._graph.inputs, manifest.described)
            self._reading = _reading(manifest, self._graph)
            self._output = "" if isinstance(self._reading, ClassReading) else _output(manifest, self._graph.outputs)
            self._background = _checked(manifest, self.columns)
            self._matched = self._match(path) if self._background else None
        more = self._reading.inferred if isinstance(self._reading, ClassReading) else (f"output: {self._output}",)
        task = () if manifest.task else (f"task: {'regression' if self._output else 'classification'}",)
        self.inferred = (*inferred, *lines, *task, *(more if not manifest.output else ()))

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes."""
        return self._graph.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it gives."""
        return self._graph.outputs

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """Every output.

        Raises:
            TensorError: the tensors are not what it takes, or a column holds none of its categories.
        """
        check_tensors(self.inputs, tensors)
        first = next(iter(tensors.values()))
        rows = len(first) if first.ndim else 1
        await aside(rows * self.columns.categorical, self.columns.check, tensors)
        return Inference(await self._graph.run(tensors, terms), rows)

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:
        """Labels for rows of numbers, in the order of the columns."""
        return await self.classify_records(self.columns.records(values, "rows"), "rows", terms)

    async def classify_records(self, records: Sequence[Record], field: str, terms: Terms = PLAIN) -> Classified:
        """Labels for rows of named values.

        Args:
            records: at least one.
            field: what they are called in the request.
            terms: for whom, how urgent, and until when.

        Raises:
            NoLabelsError: it is a regression.
            ElementError: naming the row and the column that is wrong.
        """
        if not isinstance(self._reading, ClassReading):
            raise NoLabelsError("the model gives numbers and no labels; ask Regress")
        return self._reading.read(await self._run(records, field, terms))

    async def regress(self, records: Sequence[Record], field: str, terms: Terms = PLAIN) -> NDArray[np.float32]:
        """Numbers for rows of named values, float32 (n, outputs).

        Raises:
            NoLabelsError: it is a classification.
            ElementError: naming the row and the column that is wrong.
        """
        if isinstance(self._reading, ClassReading):
            raise NoLabelsError("the model gives labels and no numbers; ask Classify")
        answer = (await self._run(records, field, terms))[self._output]
        return np.asarray(answer, np.float32).reshape(len(records), -1)

    async def explain(
        self, records: Sequence[Record], outputs: Sequence[Sequence[int]], terms: Terms = PLAIN
    ) -> list[list[Explanation]]:
        """What the values of each row did, for some of its outputs: classes, or numbers of a regression.

        Raises:
            ExplanationError: there is no row to compare with, or too many are asked about.
        """
        if not self._background:
            names = ", ".join(f"{name}: …" for name in self.columns.names[:8])
            raise ExplanationError(
                f"the model has no row to compare with; add typical ones to model.yaml: `background: [{{{names}}}]`"
            )
        if len(records) > _MAX_EXPLAINED:
            raise ExplanationError(
                f"explains at most {_MAX_EXPLAINED} rows at once, and the request has {len(records)}"
            )
        explainer = Explainer(
            self.columns.names,
            self._background,
            lambda mixed: self._answers(mixed, terms),
            self._numbers,
            self._matched,
            "value" if self._output else "probability",
        )
        return [
            [await explainer.explain(record, output) for output in wanted]
            for record, wanted in zip(records, outputs, strict=True)
        ]

    @property
    def columns_of(self) -> Mapping[str, Sequence[str]]:
        """The labels of an output's columns, by the output's name."""
        return self._reading.columns_of if isinstance(self._reading, ClassReading) else {}

    async def _answers(self, records: Sequence[Record], terms: Terms) -> NDArray[np.float64]:
        """What is explained of rows, float64 (n, outputs)."""
        return self._explained(await self._run(records, "records", terms), len(records))

    def _explained(self, outputs: Tensors, count: int) -> NDArray[np.float64]:
        name = self._reading.probabilities if isinstance(self._reading, ClassReading) else self._output
        return np.asarray(outputs[name], np.float64).reshape(count, -1)

    def _numbers(self, records: Sequence[Record]) -> NDArray[np.float64]:
        """Rows as the graph's inputs have them, side by side, float64 (n, columns)."""
        made = self.columns.tensors(records, "records")
        parts = [np.asarray(made[spec.name], np.float64).reshape(len(records), -1) for spec in self.inputs]
        return np.concatenate(parts, axis=1)

    def _match(self, path: Path) -> Matched | None:
        """The sum that the graph is, if it answers rows, and mixtures of them, as that says."""
        if not self.columns.are_numbers or not self._graph.batches:
            return None
        form = read_form(path, len(self.columns.names))
        if form is None:
            return None
        random = np.random.default_rng(7)
        picks = random.integers(0, len(self._background), (_TRIED, len(self.columns.names)))
        names = self.columns.names
        mixed: list[Record] = [
            {name: self._background[at].get(name) for name, at in zip(names, row, strict=True)}
            for row in picks.tolist()
        ]
        rows = self._numbers(mixed)
        if not np.isfinite(rows).all():
            return None
        outputs = self._graph.try_once(self.columns.tensors(mixed, "background"))
        return match(form, rows, self._explained(outputs, _TRIED))

    async def _run(self, records: Sequence[Record], field: str, terms: Terms) -> dict[str, Tensor]:
        size = len(records) * len(self.columns.places)
        return await self._graph.run_table(await aside(size, self.columns.tensors, records, field), terms)


def _checked(manifest: TabularManifest, columns: Columns) -> tuple[Record, ...]:
    """The rows to compare with, seen to be rows of the table."""
    try:
        columns.tensors(manifest.background, "background")
    except ElementError as error:
        raise ManifestError(error.message) from None
    return manifest.background


def _reading(manifest: TabularManifest, graph: Graph) -> ClassReading | None:
    """How labels are read; None for a regression."""
    if manifest.task == "regression" or manifest.output:
        return None
    found = read_classes(manifest, graph.outputs, graph.classes)
    if isinstance(found, str):
        if manifest.task == "classification":
            raise ManifestError(found)
        return None
    return found


def _output(manifest: TabularManifest, outputs: Sequence[TensorSpec]) -> str:
    """The output with a regression's numbers."""
    names = [spec.name for spec in outputs if spec.datatype.startswith("FP") and len(spec.shape) in (1, 2)]
    if manifest.output:
        if manifest.output not in names:
            raise ManifestError(f"output: `{manifest.output}` is no output of numbers; those are {', '.join(names)}")
        return manifest.output
    if len(names) != 1:
        raise ManifestError(
            "it cannot be seen which output holds the numbers; add this line to model.yaml: "
            f"`output: {names[0] if names else 'OUTPUT'}`"
        )
    return names[0]
