"""A model that remembers: a graph whose states go from one request of a sequence into the next.

Steps of different sequences share runs like any requests, since a state is rows like any other input's; steps of one
sequence go one after the other. Triton calls this implicit state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.errors import NoLabelsError, SequenceRequiredError, SequenceStateError, TensorError
from engine.manifest import OnnxManifest
from engine.manifest.sequences import SequenceSection, State
from engine.scheduler.terms import PLAIN, SequenceTerms, Terms
from engine.sequences.running import Held, RunningSequences
from engine.sequences.wiring import wired
from engine.servables.base import Classified, Inference, Items, Tensors, check_tensors
from engine.servables.closing import closed_on_failure
from engine.servables.context import ModelContext
from engine.servables.graph_backed import GraphBacked
from engine.servables.onnx_model import OnnxModel
from engine.tensor import Tensor, TensorSpec, check_tensor

__all__ = ["SequenceModel"]


class SequenceModel(GraphBacked[OnnxModel]):
    """A graph with states. `waiting` leaves out the steps that wait for the step before them.

    Args:
        context: its files and how they are to serve.
        section: what they say of its states.
        held: keeps the version in memory while sequences are under way.

    Raises:
        ManifestError: the graph has no such tensors.
    """

    classifies: Items | None = None

    def __init__(
        self,
        context: ModelContext[OnnxManifest],
        section: SequenceSection,
        held: Held,
    ) -> None:
        self._graph = graph = OnnxModel(context)
        with closed_on_failure(graph):
            self._wiring = wired(section, graph.inputs, graph.outputs)
        self.inferred = tuple(line for line in graph.inferred if line.partition(":")[0] in ("file", "batching"))
        self.running = RunningSequences(
            context.manifest.name,
            max_idle_s=section.max_idle_s,
            max_sequences=section.max_sequences,
            max_bytes=section.max_state_bytes,
            held=held,
        )

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What a caller gives: the graph's inputs but states and controls."""
        return self._wiring.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What a caller gets."""
        return self._wiring.outputs

    @property
    def states(self) -> tuple[tuple[State, TensorSpec], ...]:
        """What goes from a step into the next, each with the input that it goes into."""
        return self._wiring.states

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """The outputs of one step.

        Raises:
            SequenceRequiredError: the request is part of no sequence.
            SequenceNotFoundError: its sequence is not under way.
            SequenceExistsError: it begins one that is.
            SequencesFullError: too many are.
            EngineError: the step failed; the sequence is as it was before.
        """
        if terms.sequence is None:
            raise SequenceRequiredError
        check_tensors(self.inputs, tensors)
        rows = self._rows(tensors)
        async with self.running.step(terms.owner, terms.sequence) as running:
            if running.rows not in (0, rows):
                raise TensorError(
                    self.inputs[0].name, f"holds {rows} rows; all steps of this sequence have {running.rows}"
                )
            state = running.state or self._wiring.begun(rows)
            answer = await self._graph.infer(self._fed(tensors, state, terms.sequence, rows), terms)
            kept = self._wiring.kept(answer.outputs)
            self._check(kept)
            self.running.keep(running, kept)
            running.rows = rows
        shown = {spec.name: answer.outputs[spec.name] for spec in self.outputs}
        return Inference(shown, answer.rows)

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:  # noqa: ARG002 -- the port's
        """Never: it gives tensors, step by step."""
        raise NoLabelsError("the model answers sequences, step by step; ask it with ModelInfer")

    def _rows(self, tensors: Tensors) -> int:
        """How many rows a step has: the length of its first input along a free first axis, else one."""
        free = [spec.name for spec in self.inputs if spec.shape and spec.shape[0] == -1]
        rows = {len(tensors[name]) for name in free}
        if len(rows) > 1:
            raise TensorError(free[0], "all inputs must have the same length along axis 0")
        if 0 in rows:
            raise TensorError(free[0], "holds no rows")
        return rows.pop() if rows else 1

    def _fed(self, tensors: Tensors, state: Tensors, terms: SequenceTerms, rows: int) -> dict[str, Tensor]:
        return {**tensors, **state, **self._wiring.told(terms, rows)}

    def _check(self, kept: Tensors) -> None:
        """See that what came out of a step can go into the next one."""
        for state, spec in self._wiring.states:
            try:
                check_tensor(spec, kept[spec.name])
            except TensorError as error:
                raise SequenceStateError(
                    f"what came out as `{state.output}` cannot go into the next step: {error.message}"
                ) from None
