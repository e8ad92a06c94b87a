"""The references in an ensemble's manifest: each leads to a step or an input, and no step waits for itself.

Whether the tensors at both ends go together is found out by `engine.ensembles.plan`, which knows the models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from engine.errors import ManifestError

__all__ = ["Source", "Wires", "check_references", "hint", "in_order", "source_of"]

Wires = Mapping[str, str]
"""Names of tensors to references."""


class Source(NamedTuple):
    """Where a tensor comes from: a step's output, or an input of the ensemble where `step` is empty."""

    step: str
    tensor: str


def source_of(reference: str) -> Source:
    """A reference read: `step.output`, where the output may have dots itself, or `input`."""
    step, dot, tensor = reference.partition(".")
    return Source(step, tensor) if dot else Source("", reference)


def check_references(steps: Sequence[tuple[str, Wires]], outputs: Wires, declared: Sequence[str]) -> None:
    """See that the graph is one.

    Args:
        steps: each one's name, and where its inputs come from.
        outputs: where the ensemble's outputs come from.
        declared: the ensemble's inputs, if it says which it has.

    Raises:
        ManifestError: naming the line.
    """
    names = [name for name, _ in steps]
    for at, name in enumerate(names):
        if name in names[:at]:
            raise ManifestError(f"steps[{at}]: there are two steps `{name}`; give one of them a name, `name: {name}-2`")
    used: set[str] = set()
    for at, (name, wires) in enumerate(steps):
        for tensor, reference in wires.items():
            source = source_of(reference)
            _check(f"steps[{at}].inputs.{tensor}", source, names, declared)
            used.add(source.step)
            if source.step == name:
                raise ManifestError(f"steps[{at}].inputs.{tensor}: `{reference}` is the step's own output")
    for tensor, reference in outputs.items():
        source = source_of(reference)
        _check(f"outputs.{tensor}", source, names, declared)
        if not source.step:
            raise ManifestError(
                f"outputs.{tensor}: `{reference}` is no output of a step; write `{tensor}: {names[-1]}.…`"
            )
        used.add(source.step)
    for at, name in enumerate(names):
        if name not in used:
            raise ManifestError(f"steps[{at}]: nobody uses what `{name}` gives; name it in `outputs`, or leave it out")
    in_order(steps)


def in_order(steps: Sequence[tuple[str, Wires]]) -> list[str]:
    """The steps' names, each after those that it waits for.

    Raises:
        ManifestError: some wait for each other.
    """
    before = {name: {source_of(reference).step for reference in wires.values()} - {""} for name, wires in steps}
    try:
        return list(TopologicalSorter(before).static_order())
    except CycleError as error:
        ring = " → ".join(f"`{name}`" for name in error.args[1])
        raise ManifestError(f"steps: {ring}: each needs the one before, and none can begin") from None


def hint(name: str, known: Sequence[str]) -> str:
    """What may have been meant by a name that is not known."""
    near = get_close_matches(name, known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known) or 'none'}"


def _check(place: str, source: Source, steps: Sequence[str], declared: Sequence[str]) -> None:
    if source.step and source.step not in steps:
        raise ManifestError(f"{place}: there is no step `{source.step[:64]}`; {hint(source.step, steps)}")
    if source.step and not source.tensor:
        raise ManifestError(f"{place}: names the step and no output of it; write `{source.step}.OUTPUT`")
    if not source.step and source.tensor in steps:
        raise ManifestError(f"{place}: `{source.tensor}` is a step; name one of its outputs, `{source.tensor}.OUTPUT`")
    if not source.step and declared and source.tensor not in declared:
        raise ManifestError(f"{place}: `inputs` has no `{source.tensor[:64]}`; {hint(source.tensor, declared)}")
