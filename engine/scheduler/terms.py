"""On what terms a request waits and is computed: for whom, how urgently, until when, as part of what sequence."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PLAIN", "SequenceTerms", "Terms"]


@dataclass(frozen=True, slots=True)
class SequenceTerms:
    """The part of a sequence that a request is; its state is kept between them.

    Attributes:
        id: of the sequence, the caller's own choice; a number in decimal digits, or a text.
        starts: whether it is the first.
        ends: whether it is the last.
    """

    id: str
    starts: bool = False
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """What a caller asks for besides the answer.

    Attributes:
        owner: the tenant; one owner's requests cannot keep all others' waiting.
        priority: 1 is the most urgent; 0 means what the model says.
        timeout_s: how long it may wait in the queue; 0 means what the model says.
        sequence: of which sequence it is a part; None where it stands alone.
        fresh: whether it is computed anew, also where its answer is kept.
    """

    owner: str = ""
    priority: int = 0
    timeout_s: float = 0.0
    sequence: SequenceTerms | None = None
    fresh: bool = False


PLAIN = Terms()
"""Nobody's, as urgent as the model says, for as long as the model says."""
