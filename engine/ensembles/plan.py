"""An ensemble's graph worked out: in what order its steps go, and whether what flows between them fits.

The models are known here by what they take and give; asking them is `engine.servables.ensemble`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.ensembles.references import Source, hint, in_order, source_of
from engine.errors import ManifestError
from engine.manifest.ensembles import DeclaredInput, EnsembleManifest
from engine.tensor import DATATYPES, TensorSpec

__all__ = ["Member", "Plan", "PlannedStep", "work_out"]


class Member(Protocol):
    """A model as a plan sees it."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What it takes."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What it gives."""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step.

    Attributes:
        name: how it is called.
        model: the id of its model.
        inputs: where each input comes from.
        version: of the model, by number or alias; empty for the newest.
    """

    name: str
    model: str
    inputs: Mapping[str, Source]
    version: str = ""

    @property
    def after(self) -> frozenset[str]:
        """The steps that it waits for."""
        return frozenset(source.step for source in self.inputs.values() if source.step)


@dataclass(frozen=True, slots=True)
class Plan:
    """A graph that can be run.

    Attributes:
        steps: each after those that it waits for.
        inputs: what the ensemble takes.
        outputs: what it gives.
        sources: where each output comes from.
    """

    steps: tuple[PlannedStep, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sources: Mapping[str, Source]


def work_out(manifest: EnsembleManifest, members: Mapping[str, Member]) -> Plan:
    """The plan of an ensemble.

    Args:
        manifest: its graph, whose references were checked.
        members: the model of each step.

    Raises:
        ManifestError: a model has no such input or output, or what flows between two does not fit; it names the line.
    """
    given = {declared.name: _declared(at, declared) for at, declared in enumerate(manifest.inputs)}
    taken: dict[str, TensorSpec] = dict(given)
    used: set[str] = set()
    for at, step in enumerate(manifest.steps):
        wanted = {spec.name: spec for spec in members[step.called].inputs}
        for tensor in step.inputs:
            if tensor not in wanted:
                raise ManifestError(
                    f"steps[{at}].inputs.{tensor}: `{step.model}` has no such input; {hint(tensor, list(wanted))}"
                )
        for spec in wanted.values():
            place = f"steps[{at}].inputs.{spec.name}"
            if spec.name not in step.inputs:
                raise ManifestError(f"{place}: is missing; add the line `{spec.name}: …`, {_described(spec)}")
            source = source_of(step.inputs[spec.name])
            if source.step:
                _fitted(place, _output(place, source, members), spec)
                continue
            used.add(source.tensor)
            known = taken.get(source.tensor)
            wish = TensorSpec(source.tensor, spec.datatype, spec.shape)
            taken[source.tensor] = wish if known is None else _fitted(place, known, wish)
    for at, declared in enumerate(manifest.inputs):
        if declared.name not in used:
            raise ManifestError(f"inputs[{at}]: no step takes `{declared.name}`; leave it out, or wire it to a step")
    outputs, sources = [], {}
    for name, reference in manifest.outputs.items():
        source = sources[name] = source_of(reference)
        spec = _output(f"outputs.{name}", source, members)
        outputs.append(TensorSpec(name, spec.datatype, spec.shape))
    return Plan(_steps(manifest), tuple(taken.values()), tuple(outputs), sources)


def _steps(manifest: EnsembleManifest) -> tuple[PlannedStep, ...]:
    planned = {
        step.called: PlannedStep(
            step.called,
            step.model,
            {tensor: source_of(reference) for tensor, reference in step.inputs.items()},
            str(step.version or ""),
        )
        for step in manifest.steps
    }
    return tuple(planned[name] for name in in_order([(step.called, step.inputs) for step in manifest.steps]))


def _declared(at: int, declared: DeclaredInput) -> TensorSpec:
    if declared.datatype not in DATATYPES:
        raise ManifestError(f"inputs[{at}].datatype: `{declared.datatype}` is none; {hint('', list(DATATYPES))}")
    return TensorSpec(declared.name, declared.datatype, declared.shape)


def _output(place: str, source: Source, members: Mapping[str, Member]) -> TensorSpec:
    specs = {spec.name: spec for spec in members[source.step].outputs}
    if source.tensor not in specs:
        raise ManifestError(
            f"{place}: `{source.step}` gives no `{source.tensor[:64]}`; {hint(source.tensor, list(specs))}"
        )
    return specs[source.tensor]


def _fitted(place: str, given: TensorSpec, wanted: TensorSpec) -> TensorSpec:
    """What both ends of a wire say together.

    Raises:
        ManifestError: they contradict each other.
    """
    fits = given.datatype == wanted.datatype and len(given.shape) == len(wanted.shape)
    if not fits or any(
        -1 not in (one, other) and one != other for one, other in zip(given.shape, wanted.shape, strict=True)
    ):
        raise ManifestError(
            f"{place}: takes {_described(wanted)}, and `{given.name}` is {_described(given)}; put a step between them "
            "that makes one of the other, or wire something else"
        )
    shape = tuple(max(one, other) for one, other in zip(given.shape, wanted.shape, strict=True))
    return TensorSpec(given.name, given.datatype, shape)


def _described(spec: TensorSpec) -> str:
    return f"{spec.datatype} {list(spec.shape)}"
