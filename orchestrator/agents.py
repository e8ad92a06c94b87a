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
from orchestrator.errors import AgentBusyError
from orchestrator.flow import Flow, parse_flow
from orchestrator.ports import RunRows

__all__ = ["Agent", "Agents", "Revision"]

_KEPT_FLOWS = 256


class Agent(msgspec.Struct, frozen=True):
    """An agent.

    Attributes:
        flow: its flow's text.
        display_name: for people.
        paused: true while it takes no new runs.
        revision: number of the revision that new runs get, counted from 1.
    """

    flow: str
    display_name: str = ""
    paused: bool = False
    revision: int = 1


class Revision(msgspec.Struct, frozen=True):
    """A flow as it was at one time; it never changes."""

    flow: str
    flow_sha256: str


def revision_name(agent: str, number: int) -> str:
    """The name of an agent's revision."""
    return f"{agent}/revisions/r{number}"


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
        kept = (await self.get(Revision, revision)).body
        known = self._flows.get(kept.flow_sha256)
        if known is not None:
            return known
        flow, _ = await asyncio.to_thread(parse_flow, kept.flow)
        if len(self._flows) >= _KEPT_FLOWS:
            self._flows.clear()
        self._flows[kept.flow_sha256] = flow
        return flow

    def wrote(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Keep the revision that an agent points at."""
        if not isinstance(entry.body, Agent):
            return
        name = revision_name(entry.name, entry.body.revision)
        if not self._rows.taken(transaction, Revision, name):
            digest = hashlib.sha256(entry.body.flow.encode()).hexdigest()
            made = replace(entry, name=name, revision=1, create_time=entry.update_time, labels={})
            kept: Entry[Any] = replace(
                made, uid=f"{entry.uid}-{entry.body.revision}", body=Revision(entry.body.flow, digest)
            )
            self._rows.add(transaction, kept)

    def deleting(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Refuse while runs are under way; revisions go with their agent."""
        under_way = self._runs.live(transaction, entry.name)
        if under_way:
            raise AgentBusyError(
                f"{entry.name} has {under_way} runs under way; cancel them or wait for their end", runs=under_way
            )
        for number in range(1, entry.body.revision + 1):
            self._rows.bury(transaction, Revision, revision_name(entry.name, number), forever=False)
