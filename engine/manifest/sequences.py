"""The section `sequence`: what a model remembers from one request of a sequence to the next."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from engine.errors import ManifestError

__all__ = ["Control", "SequenceSection", "Signal", "State"]

_TensorName: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Axis: TypeAlias = Annotated[int, msgspec.Meta(ge=-1, le=2**31)]
Signal: TypeAlias = Literal["start", "end", "ready", "id"]


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A tensor that comes out of one step and goes into the next.

    Attributes:
        input: the model's input.
        output: the output that goes into it.
        initial: what each of its numbers is before the first step.
        shape: its shape before the first step, where the graph leaves lengths free: `[-1, 4, 0]`; the first may stay
            -1, for a row each. A length that is 0 may grow.
        show: whether the output is part of the answer too.
    """

    input: _TensorName
    output: _TensorName
    initial: float = 0.0
    shape: Annotated[tuple[_Axis, ...], msgspec.Meta(max_length=16)] | None = None
    show: bool = False


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An input that is told where in its sequence a step is.

    Attributes:
        input: the model's input, one value a row.
        signal: what it is told: whether the step is the first (`start`), the last (`end`), holds something (`ready`,
            which is always so), or the sequence's id.
        false_true: the two values that it knows, for all signals but `id`.
    """

    input: _TensorName
    signal: Signal
    false_true: tuple[float, float] = (0.0, 1.0)


class SequenceSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is kept between the steps of a sequence, and for how long.

    Attributes:
        states: what goes from a step into the next.
        controls: what is told of a step.
        max_idle_s: a sequence that was not asked for so long is forgotten.
        max_sequences: so many may be under way.
        max_state_bytes: what the states of all of them may come to.
    """

    states: Annotated[tuple[State, ...], msgspec.Meta(min_length=1, max_length=256)]
    controls: Annotated[tuple[Control, ...], msgspec.Meta(max_length=16)] = ()
    max_idle_s: Annotated[float, msgspec.Meta(ge=0.1, le=86_400)] = 60.0
    max_sequences: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1024
    max_state_bytes: Annotated[int, msgspec.Meta(ge=1, le=1 << 40)] = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        """See that each input is fed once, and each output goes one way.

        Raises:
            ManifestError: it is not.
        """
        fed = [(f"states[{at}]", state.input) for at, state in enumerate(self.states)]
        fed += [(f"controls[{at}]", control.input) for at, control in enumerate(self.controls)]
        for at, (place, name) in enumerate(fed):
            if name in (other for _, other in fed[:at]):
                raise ManifestError(f"sequence.{place}.input: `{name}` is fed twice; leave one of the two out")
        outputs = [state.output for state in self.states]
        for at, name in enumerate(outputs):
            if name in outputs[:at]:
                raise ManifestError(f"sequence.states[{at}].output: `{name}` goes into two inputs; leave one out")
