"""One answer under way: what it came from, how it goes on, and where its pieces go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.generation.answer import Answer
from engine.generation.constraint import Constraint
from engine.generation.outbox import Outbox
from engine.generation.sampling import Chances
from engine.scheduler.terms import Terms

__all__ = ["SequenceState"]


@dataclass(slots=True, eq=False)
class SequenceState:
    """One answer under way.

    Attributes:
        prompt: its tokens.
        reserved: tokens that prompt and answer may come to together.
        chances: how its tokens are chosen.
        top_logprobs: of how many tokens the log-probabilities are told; None tells none.
        constraint: what it may be; None leaves it free.
        answer: the text so far.
        outbox: where pieces go.
        terms: for whom, how urgently, until when it waits.
        since: when it was asked for, seconds of `time.perf_counter`.
        cancelled: whether nobody wants it any more.
    """

    prompt: Sequence[int]
    reserved: int
    chances: Chances
    top_logprobs: int | None
    constraint: Constraint | None
    answer: Answer
    outbox: Outbox
    terms: Terms
    since: float
    cancelled: bool = field(default=False)

    @property
    def longest(self) -> int:
        """The most tokens that the answer may have."""
        return self.reserved - len(self.prompt)

    @property
    def made(self) -> int:
        """How many tokens were made for it: those of the answer, or what has come of one that was given up."""
        return self.answer.made if self.answer.over else self.outbox.received
