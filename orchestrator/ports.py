"""What the core asks of others: the services that a flow calls, and the rows that runs are kept in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Protocol

from mesh.db import Transaction
from mesh.pagination import Page
from orchestrator.problem import Problem
from orchestrator.runs import Event, NewEvent, Run, RunLease

__all__ = ["Calls", "CallsFor", "RunRows"]


class Calls(Protocol):
    """The services that a run calls, on its requester's behalf."""

    async def call(self, kind: str, arguments: Any, effect_key: str) -> Any:  # noqa: ANN401 -- any JSON
        """Call `infer`, `decide` or `connect`.

        A callee that cannot be reached is tried again for a minute; the effect key keeps that safe.

        Raises:
            CallDeferredError: the callee did nothing and says when to call again.
            TiationError: what the callee answered.
        """


class CallsFor(Protocol):
    """Makes the calls of one run."""

    def __call__(self, run: Run) -> Calls:
        """The services as the run's requester reaches them."""


class RunRows(Protocol):
    """The rows of runs and events; `orchestrator.store` says what each method does."""

    def add(self, connection: Transaction, run: Run, request_id: str, digest: str) -> None:
        """Keep a new run with its first event."""

    def get(self, connection: Transaction, name: str) -> Run | None:
        """One run."""

    def by_request(self, connection: Transaction, agent: str, request_id: str) -> tuple[Run, str] | None:
        """What a request created."""

    def digest_of(self, connection: Transaction, name: str) -> str:
        """The digest of the creating request."""

    def page(self, connection: Transaction, agent: str, page: Page) -> list[Run]:
        """A page of runs and one more."""

    def live(self, connection: Transaction, agent: str) -> int:
        """How many runs of an agent have not ended."""

    def events(self, connection: Transaction, name: str, after: int, limit: int) -> list[Event]:
        """Events in order."""

    def tail(self, connection: Transaction, name: str, after: int, limit: int) -> tuple[str, int, list[Event]] | None:
        """A run's state, the sequence of its newest event, and events."""

    def claim(
        self, connection: Transaction, owner: str, now: datetime, until: datetime, limit: int, but: Collection[str]
    ) -> list[RunLease]:
        """Take runs that nobody holds."""

    def append(self, connection: Transaction, lease: RunLease, events: Sequence[NewEvent], now: datetime) -> bool:
        """Journal events; returns whether somebody has asked to cancel the run."""

    def finish(
        self, connection: Transaction, lease: RunLease, events: Sequence[NewEvent], state: str, output: Any,  # noqa: ANN401
        problem: Problem | None, now: datetime,
    ) -> None:  # fmt: skip
        """Journal the last events and end the run."""

    def renew(
        self, connection: Transaction, owner: str, names: Collection[str], until: datetime
    ) -> Sequence[tuple[str, bool]]:
        """Hold runs for longer."""

    def release(self, connection: Transaction, owner: str, name: str | None = None) -> None:
        """Let go of a run, or of everything that is held."""

    def request_cancel(self, connection: Transaction, name: str, now: datetime) -> Run | None:
        """Note that a run is to end; one that nobody works on ends at once."""
