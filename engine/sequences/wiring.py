"""What of a graph's tensors is state, what is told to it, and what is the caller's.

Checked once, when a version is opened; see `engine.manifest.sequences` for what its owner may say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from engine.errors import ManifestError, TensorError
from engine.manifest.sequences import Control, SequenceSection, State
from engine.scheduler.terms import SequenceTerms
from engine.tensor import DATATYPES, Tensor, TensorSpec

__all__ = ["Wiring", "wired"]

_INTEGERS = frozenset({"INT32", "UINT32", "INT64", "UINT64"})


@dataclass(frozen=True, slots=True)
class Wiring:
    """A graph's tensors, parted.

    Attributes:
        inputs: what a caller gives.
        outputs: what a caller gets.
        states: what goes from a step into the next, each with the input that it goes into.
        controls: what is told of a step, with the input that takes it.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[tuple[State, TensorSpec], ...]
    controls: tuple[tuple[Control, TensorSpec], ...]

    def begun(self, rows: int) -> dict[str, Tensor]:
        """The states before the first step of so many rows."""
        return {spec.name: _initial(state, spec, rows) for state, spec in self.states}

    def told(self, terms: SequenceTerms, rows: int) -> dict[str, Tensor]:
        """What the controls are told of a step.

        Raises:
            TensorError: the sequence's id is no number, and the graph takes one.
        """
        return {spec.name: _told(control, spec, terms, rows) for control, spec in self.controls}

    def kept(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The states after a step: copies, since an output may be a part of what others were given."""
        return {spec.name: outputs[state.output].copy() for state, spec in self.states}


def wired(section: SequenceSection, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Wiring:
    """Part a graph's tensors.

    Raises:
        ManifestError: the graph has no such tensor, or it does not fit; it names the line.
    """
    taken, given = ({spec.name: spec for spec in specs} for specs in (inputs, outputs))
    states = []
    for at, state in enumerate(section.states):
        place = f"sequence.states[{at}]"
        spec = _named(f"{place}.input", state.input, taken)
        _check_state(place, state, spec, _named(f"{place}.output", state.output, given))
        states.append((state, spec))
    controls = []
    for at, control in enumerate(section.controls):
        spec = _named(f"sequence.controls[{at}].input", control.input, taken)
        _check_control(f"sequence.controls[{at}]", control, spec)
        controls.append((control, spec))
    fed = {state.input for state in section.states} | {control.input for control in section.controls}
    hidden = {state.output for state in section.states if not state.show}
    shown = tuple(spec for spec in outputs if spec.name not in hidden)
    if not shown:
        raise ManifestError(
            "sequence.states: every output is a state, and nothing is left to answer with; add the line `show: true`"
        )
    return Wiring(tuple(spec for spec in inputs if spec.name not in fed), shown, tuple(states), tuple(controls))


def _named(place: str, name: str, specs: Mapping[str, TensorSpec]) -> TensorSpec:
    if name not in specs:
        near = get_close_matches(name, specs, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"it has {', '.join(specs) or 'none'}"
        raise ManifestError(f"{place}: the graph has no `{name}`; {hint}")
    return specs[name]


def _check_state(place: str, state: State, spec: TensorSpec, output: TensorSpec) -> None:
    """See that an output can go into an input, and that the first state can be made."""
    fits = spec.datatype == output.datatype and len(spec.shape) == len(output.shape)
    if not fits or any(
        -1 not in (one, other) and one != other for one, other in zip(spec.shape, output.shape, strict=True)
    ):
        raise ManifestError(
            f"{place}: `{state.output}` is {output.datatype} {list(output.shape)} and cannot go into `{state.input}`, "
            f"which takes {spec.datatype} {list(spec.shape)}"
        )
    shape = spec.shape if state.shape is None else state.shape
    suits = len(shape) == len(spec.shape) and all(
        wish in (-1, have) for wish, have in zip(spec.shape, shape, strict=True)
    )
    if not suits or -1 in shape[1:]:
        wanted = [length if at == 0 or length != -1 else 0 for at, length in enumerate(spec.shape)]
        raise ManifestError(
            f"{place}.shape: `{state.input}` takes {list(spec.shape)}; write the lengths before the first step, "
            f"`shape: {wanted}`"
        )
    if spec.datatype == "BYTES" and state.initial:
        raise ManifestError(f"{place}.initial: texts begin empty; remove the line")
    _check_number(f"{place}.initial", state.initial, spec)


def _check_control(place: str, control: Control, spec: TensorSpec) -> None:
    """See that an input takes one value a row, of a type that can say what it is told."""
    if any(length not in (-1, 1) for length in spec.shape):
        raise ManifestError(f"{place}: `{spec.name}` takes {list(spec.shape)}; a control takes one value a row")
    if control.signal == "id" and spec.datatype not in _INTEGERS | {"BYTES"}:
        raise ManifestError(
            f"{place}: `{spec.name}` takes {spec.datatype}; an id goes into {', '.join(sorted(_INTEGERS))} or BYTES"
        )
    if control.signal != "id" and spec.datatype == "BYTES":
        raise ManifestError(f"{place}: `{spec.name}` takes BYTES; `{control.signal}` is told as a number")
    for value in control.false_true:
        _check_number(f"{place}.false_true", value, spec)


def _check_number(place: str, value: float, spec: TensorSpec) -> None:
    dtype = DATATYPES[spec.datatype]
    if dtype.kind not in "iub":
        return
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if not value.is_integer() or not least <= value <= most:
        raise ManifestError(f"{place}: {value:g} is no {spec.datatype}, which `{spec.name}` takes")


def _initial(state: State, spec: TensorSpec, rows: int) -> Tensor:
    shape = tuple(rows if length == -1 else length for length in state.shape or spec.shape)
    if spec.datatype == "BYTES":
        texts: Tensor = np.empty(shape, object)
        texts[...] = b""
        return texts
    return np.full(shape, state.initial, DATATYPES[spec.datatype])


def _told(control: Control, spec: TensorSpec, terms: SequenceTerms, rows: int) -> Tensor:
    shape = tuple(rows if at == 0 and length == -1 else 1 for at, length in enumerate(spec.shape))
    if control.signal == "id":
        return _id(spec, terms.id, shape)
    true = {"start": terms.starts, "end": terms.ends, "ready": True}[control.signal]
    return np.full(shape, control.false_true[true], DATATYPES[spec.datatype])


def _id(spec: TensorSpec, sequence: str, shape: tuple[int, ...]) -> Tensor:
    if spec.datatype == "BYTES":
        texts: Tensor = np.empty(shape, object)
        texts[...] = sequence.encode()
        return texts
    dtype = DATATYPES[spec.datatype]
    if not (sequence.isdecimal() and sequence.isascii() and int(sequence) <= np.iinfo(dtype).max):
        raise TensorError(spec.name, f"takes the sequence's id as {spec.datatype}, and `{sequence}` is none")
    return np.full(shape, int(sequence), dtype)
