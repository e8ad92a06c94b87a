"""What the core asks of others: the services that a flow calls, and the rows that runs are kept in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Protocol

from mesh.db import Transaction
from mesh.pagination import Page
from orchestrator.approvals import Answer, Approval
from orchestrator.filter import Order, Term
from orchestrator.problem import Problem
from orchestrator.runs import Ahead, Event, NewEvent, Run, RunLease, Source

__all__ = ["ApprovalRows", "AsideRows", "Calls", "CallsFor", "RunRows"]


class Calls(Protocol):
    """The services that a run calls, on its requester's behalf."""

    async def call(self, kind: str, arguments: Any, effect_key: str) -> Any:  # noqa: ANN401 -- any JSON
        """Call `infer`, `decide`, `connect`, `http` or `grpc`.

        A callee that cannot be reached is tried again for a minute; the effect key keeps that safe.

        Raises:
            CallDeferredError: the callee did nothing and says when to call again.
            TiationError: what the callee answered.
        """


class CallsFor(Protocol):
    """Makes the calls of one run."""

    def __call__(self, run: Run) -> Calls:
        """The services as the run's requester reaches them."""


class AsideRows(Protocol):
    """The rows of runs that are put aside; `orchestrator.adapters.aside_rows` says what each method does."""

    def put_aside(
        self, connection: Transaction, lease: RunLease, events: Sequence[NewEvent], state: str,
        until: datetime | None, now: datetime,
    ) -> None:  # fmt: skip
        """Journal events and let go of a run until a moment or an answer."""

    def wake(self, connection: Transaction, now: datetime) -> int:
        """Queue the runs whose moment has come; returns how many."""

    def ahead(self, connection: Transaction, now: datetime) -> Ahead:
        """What is to be done next for runs that nobody holds."""

    def hear(self, connection: Transaction, name: str, event: NewEvent, now: datetime) -> bool:
        """Journal word from outside and queue the run if it was put aside; false where it has ended."""


class ApprovalRows(Protocol):
    """The rows of approvals; `orchestrator.adapters.approval_rows` says what each method does."""

    def add_approval(self, connection: Transaction, approval: Approval) -> None:
        """Keep a new one."""

    def approval(self, connection: Transaction, name: str) -> Approval | None:
        """One."""

    def approvals_page(
        self, connection: Transaction, parent: str, run: str, page: Page, *, show_all: bool
    ) -> list[Approval]:
        """A page and one more."""

    def answer_approval(self, connection: Transaction, name: str, answer: Answer, request_id: str, digest: str) -> bool:
        """Keep an answer; false where the approval is no longer pending."""

    def close_approval(self, connection: Transaction, name: str, state: str, now: datetime) -> Approval | None:
        """Expire or withdraw one that is pending; returns it as it is then."""

    def withdraw_approvals(self, connection: Transaction, run: str, now: datetime) -> None:
        """Withdraw all of a run that are pending."""


class RunRows(AsideRows, ApprovalRows, Protocol):
    """The rows of runs and events; `orchestrator.store` says what each method does."""

    def add(self, connection: Transaction, run: Run, request_id: str, digest: str) -> None:
        """Keep a new run with its first event."""

    def get(self, connection: Transaction, name: str) -> Run | None:
        """One run."""

    def by_request(self, connection: Transaction, agent: str, request_id: str) -> tuple[Run, str] | None:
        """What a request created."""

    def digest_of(self, connection: Transaction, name: str) -> str:
        """The digest of the creating request."""

    def page(
        self, connection: Transaction, agent: str, page: Page, term: Term | None, order: Order
    ) -> tuple[list[Run], list[str]]:
        """A page of runs and one more, and the cursor of each; fewer where they are large."""

    def live(self, connection: Transaction, agent: str) -> int:
        """How many runs of an agent have not ended."""

    def live_counts(self, connection: Transaction, tenant: str) -> list[tuple[str, str, int]]:
        """How many runs of a tenant have not ended, by agent and state."""

    def events(self, connection: Transaction, name: str, after: int, limit: int) -> list[Event]:
        """Events in order."""

    def tail(self, connection: Transaction, name: str, after: int, limit: int) -> tuple[str, int, list[Event]] | None:
        """A run's state, the sequence of its newest event, and events."""

    def claim(
        self, connection: Transaction, owner: str, now: datetime, until: datetime, limit: int, but: Collection[str],
        max_claims: int, buried: Callable[[Run], None],
    ) -> list[RunLease]:  # fmt: skip
        """Take runs that nobody holds; `buried` is told of those that are given up."""

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

    def failures(self, connection: Transaction, name: str) -> list[tuple[int, str, Problem]]:
        """Sequence, step and problem of every failed step, newest first."""

    def redrive(
        self, connection: Transaction, name: str, principal: str, undone_from: int, now: datetime
    ) -> Run | None:
        """Queue a run that has failed again."""

    def fork(
        self, connection: Transaction, run: Run, source: Source, principal: str, request_id: str, digest: str
    ) -> None:
        """Keep a new run that begins with a copy of another one's events."""

    def is_queue_full(self, connection: Transaction, agent: str, most: int, most_of_tenant: int) -> str:
        """Whose limit of waiting runs is reached."""

    def set_queue(self, connection: Transaction, agent: str, *, paused: bool, max_concurrency: int) -> None:
        """Note how an agent's runs may be claimed."""

    def has_live(self, connection: Transaction, schedule: str) -> bool:
        """Whether a run that the schedule made has not ended."""

    def waiting(self, connection: Transaction) -> Sequence[tuple[str, int, int]]:
        """Of every agent whose runs wait: its name, how many, and the lowest rank."""

    def dead_letters(self, connection: Transaction) -> Sequence[tuple[str, int]]:
        """Of every agent with runs that were given up: its name, and how many."""
