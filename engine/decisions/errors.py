"""What can go wrong with decisions and bandits, one class per cause; of graphs besides what the sandbox says."""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import EngineError
from mesh.errors import Code, FieldViolation

__all__ = [
    "ChoiceNotFoundError",
    "DecisionExamplesError",
    "DecisionFailedError",
    "DecisionNotFoundError",
    "RewardConflictError",
]

_MAX_NAMED = 20
"""Examples that an error names."""


class DecisionExamplesError(EngineError):
    """A decision does not answer its examples as they say.

    Args:
        failed: the examples' indices, with their names and what is wrong.
        total: how many examples there are.
    """

    code = Code.FAILED_PRECONDITION
    reason = "DECISION_EXAMPLES_FAILED"

    def __init__(self, failed: Sequence[tuple[int, str]], total: int) -> None:
        named = failed[:_MAX_NAMED]
        more = f"\nand {len(failed) - _MAX_NAMED} more" if len(failed) > _MAX_NAMED else ""
        super().__init__(
            f"{len(failed)} of {total} examples are answered otherwise; change the graph or the examples\n"
            + "\n".join(text for _, text in named)
            + more,
            violations=tuple(FieldViolation(f"decision.examples[{at}]", text) for at, text in named),
            failed=len(failed),
        )


class DecisionFailedError(EngineError):
    """A decision could not be evaluated for this input."""

    code = Code.FAILED_PRECONDITION
    reason = "DECISION_FAILED"


class DecisionNotFoundError(EngineError):
    """The tenant has no such decision, or the decision no such version."""

    code = Code.NOT_FOUND
    reason = "DECISION_NOT_FOUND"


class ChoiceNotFoundError(EngineError):
    """The bandit has made no such choice, or so long ago that no reward is taken any more."""

    code = Code.NOT_FOUND
    reason = "CHOICE_NOT_FOUND"


class RewardConflictError(EngineError):
    """Another reward has been told of the choice."""

    code = Code.ALREADY_EXISTS
    reason = "REWARD_CONFLICT"
