"""Agents and their revisions: what is kept of them, and the rules of their life."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Any

import msgspec

from mesh.catalogue import Catalogue
from mesh.db import Database, Transaction
from mesh.entries import Entry
from mesh.entry_store import EntryStore
from orchestrator.errors import AgentBusyError, RevisionReplacedError
from orchestrator.flow import Flow, parse_flow
from orchestrator.ports import RunRows
from orchestrator.runs import Run
from orchestrator.traffic import Target, check_traffic

__all__ = ["Agent", "Agents", "Queue", "Revision", "revision_name", "revision_uid"]

_KEPT_FLOWS = 256


class Queue(msgspec.Struct, frozen=True):
    """How an agent's runs wait for their turn.

    Attributes:
        priority: of runs that name none, 0 to 9.
        max_priority: the highest that a run may name.
        max_concurrency: the most runs at once; 0 for no limit.
        max_queued: the most runs that wait; 0 for no limit but the tenant's.
    """

    priority: int = 0
    max_priority: int = 0
    max_concurrency: int = 0
    max_queued: int = 0


class Agent(msgspec.Struct, frozen=True):
    """An agent.

    Attributes:
        flow: its flow's text.
        display_name: for people.
        paused: true while its new runs wait.
        revision: number of the newest revision, counted from 1.
        queue: how its runs wait.
        traffic: which revisions new runs get; none means the newest.
    """

    flow: str
    display_name: str = ""
    paused: bool = False
    revision: int = 1
    queue: Queue = Queue()
    traffic: tuple[Target, ...] = ()


class Revision(msgspec.Struct, frozen=True):
    """A flow as it was at one time; it never changes."""

    flow: str
    flow_sha256: str


def revision_name(agent: str, number: int) -> str:
    """The name of an agent's revision."""
    return f"{agent}/revisions/r{number}"


def revision_uid(agent_uid: str, number: int) -> str:
    """The uid of an agent's revision; it is not given again when the agent's name is."""
    return f"{agent_uid}-{number}"


class Agents(Catalogue):
    """Keeps agents; every change of a flow makes a revision.

    Args:
        database: the service's own database.
        rows: statements for entries.
        runs: statements for runs.
    """

    def __init__(self, database: Database, rows: EntryStore, runs: RunRows) -> None:
        super().__init__(database, rows)
        self._runs = runs
        self._flows: dict[str, Flow] = {}

    async def flow_of(self, revision: str) -> Flow:
        """The flow of a revision, parsed; it was checked when it was kept.

        Raises:
            NotFoundError: there is no such revision.
        """
        return await self._parsed((await self.get(Revision, revision)).body)

    async def flow_of_run(self, run: Run) -> Flow:
        """The flow of the revision that a run is pinned to.

        Raises:
            NotFoundError: there is none of its name.
            RevisionReplacedError: that one is gone.
        """
        kept = await self.get(Revision, run.revision)
        _check_same(run, kept)
        return await self._parsed(kept.body)

    def check_revision(self, transaction: Transaction, run: Run) -> None:
        """Refuse to go on from a run whose revision is gone and has left its name to another one.

        Raises:
            RevisionReplacedError: it is.
        """
        kept = self._rows.get(transaction, Revision, run.revision)
        if kept is not None:
            _check_same(run, kept)

    async def _parsed(self, kept: Revision) -> Flow:
        known = self._flows.get(kept.flow_sha256)
        if known is not None:
            return known
        flow, _ = await asyncio.to_thread(parse_flow, kept.flow)
        if len(self._flows) >= _KEPT_FLOWS:
            self._flows.clear()
        self._flows[kept.flow_sha256] = flow
        return flow

    def check(self, _: Transaction, entry: Entry[Any]) -> None:
        """Refuse shares of new runs that are none."""
        if isinstance(entry.body, Agent):
            check_traffic(entry.body.traffic, entry.body.revision)

    def wrote(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Keep the revision that an agent points at, and how its runs may be claimed."""
        if not isinstance(entry.body, Agent):
            return
        self._runs.set_queue(
            transaction, entry.name, paused=entry.body.paused, max_concurrency=entry.body.queue.max_concurrency
        )
        name = revision_name(entry.name, entry.body.revision)
        if not self._rows.taken(transaction, Revision, name):
            digest = hashlib.sha256(entry.body.flow.encode()).hexdigest()
            made = replace(entry, name=name, revision=1, create_time=entry.update_time, labels={})
            kept: Entry[Any] = replace(
                made, uid=revision_uid(entry.uid, entry.body.revision), body=Revision(entry.body.flow, digest)
            )
            self._rows.add(transaction, kept)

    def deleting(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Refuse while runs are under way; revisions go with their agent."""
        under_way = self._runs.live(transaction, entry.name)
        if under_way:
            raise AgentBusyError(
                f"{entry.name} has {under_way} runs under way; cancel them or wait for their end", runs=under_way
            )
        self._runs.set_queue(transaction, entry.name, paused=False, max_concurrency=0)
        for number in range(1, entry.body.revision + 1):
            self._rows.bury(transaction, Revision, revision_name(entry.name, number), forever=False)


def _check_same(run: Run, kept: Entry[Revision]) -> None:
    """Compare a run's revision with the one of its name."""
    same = run.revision_uid == kept.uid if run.revision_uid else kept.create_time <= run.create_time
    if not same:
        raise RevisionReplacedError(
            f"{run.name} was made by an agent that was deleted, and {run.revision} is of a later one of the same name; "
            "create a new run",
            resource=run.revision,
        )
