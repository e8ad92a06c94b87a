"""Where a list of steps is gone through: what its expressions see, and how often the flow came to each step of it.

The flow itself is one scope, every branch of a fork is one of its own: branches run at the same time and share nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from orchestrator.runs import StepKey

__all__ = ["Scope", "StoppedError"]


class StoppedError(Exception):
    """The branch is no longer wanted: another one failed, or won."""


class Scope:
    """A scope.

    Args:
        path: names it in the journal, see `StepKey.scope`.
        context: the flow's context as it begins.
        variables: what steps around it have named.

    Attributes:
        taken: how many steps it has taken, its own branches' included.
        stopped: set when it is to end.
        inside: the step around those that the flow comes to now; None for the run.
    """

    def __init__(self, path: str = "", context: Any = None, variables: dict[str, Any] | None = None) -> None:  # noqa: ANN401
        self.path = path
        self.context = context
        self.variables = variables or {}
        self.taken = 0
        self.stopped = asyncio.Event()
        self.inside: StepKey | None = None
        self._visits: Counter[str] = Counter()
        self._branches: list[Scope] = []

    def come_to(self, pointer: str) -> StepKey:
        """The flow comes to a step, or to a mark: the next occurrence of it."""
        self._visits[pointer] += 1
        return StepKey(self.path, pointer, self._visits[pointer])

    def branch(self, occurrence: int) -> Scope:
        """A branch of the fork that the flow has come to so often; it sees what is known now."""
        path = f"{self.path}.{occurrence}" if self.path else str(occurrence)
        made = Scope(path, self.context, self.variables)
        made.inside = self.inside
        self._branches.append(made)
        if self.stopped.is_set():
            made.stop()
        return made

    def stop(self) -> None:
        """Ask it and all its branches to end."""
        self.stopped.set()
        for branch in self._branches:
            branch.stop()

    def joined(self) -> None:
        """Forget its branches, which have ended."""
        self._branches.clear()
