"""How a batch is computed: by what, when it is its turn, and what comes of a run that fails.

Which batch, and on which thread, is `engine.scheduler.batcher`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from engine.errors import EngineError, InferenceFailedError

__all__ = ["Item", "Result", "Run", "Runner", "attempt"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Run: TypeAlias = Callable[[Sequence[Item]], Sequence[Result]]


@dataclass(frozen=True, slots=True)
class Runner(Generic[Item, Result]):
    """What computes batches, one at a time.

    Attributes:
        run: computes one.
        turn: entered before a batch is cut and left once it has run, from any thread, also within itself: where cores
            are waited for, whoever asks meanwhile still goes along.
        abandon: ends what a thread computes at this moment, by the thread's number; may be called at any time.
    """

    run: Run[Item, Result]
    turn: AbstractContextManager[object] = field(default_factory=nullcontext)
    abandon: Callable[[int], None] | None = None

    @staticmethod
    def of(run: Run[Item, Result] | Runner[Item, Result]) -> Runner[Item, Result]:
        """What computes with a function, if it is one."""
        return run if isinstance(run, Runner) else Runner(run)


def attempt(run: Run[Item, Result], items: Sequence[Item]) -> tuple[Sequence[Result], EngineError | None]:
    """The results for items, one each, or the error that all of them get."""
    try:
        results = run(items)
    except EngineError as error:
        return (), error
    except BaseException as error:  # noqa: BLE001 -- whatever it is, everyone in the batch must hear of it
        return (), InferenceFailedError(f"the model failed: {type(error).__name__}")
    if len(results) != len(items):
        return (), InferenceFailedError("the model gave another number of answers than it was asked")
    return results, None
