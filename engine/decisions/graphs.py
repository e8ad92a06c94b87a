"""Decisions: graphs in GoRules' JSON Decision Model, every version of them kept.

Evaluating one happens in the sandbox.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from engine.errors import DecisionNotFoundError
from mesh.catalogue import Catalogue
from mesh.db import Transaction
from mesh.entries import Entry

__all__ = ["Decision", "DecisionVersion", "Decisions"]


class Decision(msgspec.Struct, frozen=True):
    """A decision: its graph as text, and the number of this graph, counted from 1."""

    graph: str
    version: int = 1


class DecisionVersion(msgspec.Struct, frozen=True):
    """A graph as it was at one time; it never changes."""

    graph: str


class Decisions(Catalogue):
    """Keeps decisions; every change of a graph keeps the one before."""

    async def graph(self, name: str, version: int) -> tuple[str, int]:
        """A decision's graph and its version; 0 asks for the newest.

        Raises:
            NotFoundError: there is no such decision.
            DecisionNotFoundError: there is no such version.
        """
        entry = await self.get(Decision, name)
        if version in (0, entry.body.version):
            return entry.body.graph, entry.body.version
        if version > entry.body.version:
            raise DecisionNotFoundError(
                f"{name} has no version {version}; the newest is {entry.body.version}", version=version
            )
        kept = await self.get(DecisionVersion, _version_name(name, version))
        return kept.body.graph, version

    @staticmethod
    def changer(changed: dict[str, Any], labels: dict[str, str] | None) -> Callable[[Entry[Decision]], Entry[Decision]]:
        """What changes an entry to new fields; another graph is another version."""

        def change(entry: Entry[Decision]) -> Entry[Decision]:
            body = msgspec.structs.replace(entry.body, **changed)
            if body.graph != entry.body.graph:
                body = msgspec.structs.replace(body, version=entry.body.version + 1)
            return replace(entry, body=body, labels=entry.labels if labels is None else labels)

        return change

    def wrote(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Keep the graph under its version's number."""
        if not isinstance(entry.body, Decision):
            return
        name = _version_name(entry.name, entry.body.version)
        if not self._rows.taken(transaction, DecisionVersion, name):
            kept: Entry[Any] = replace(
                entry, name=name, uid=name, revision=1, body=DecisionVersion(entry.body.graph), labels={}
            )
            self._rows.add(transaction, kept)

    def deleting(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Versions go with their decision."""
        for version in range(1, entry.body.version + 1):
            self._rows.bury(transaction, DecisionVersion, _version_name(entry.name, version), forever=False)


def _version_name(decision: str, version: int) -> str:
    return f"{decision}/versions/{version}"
