"""Decisions: graphs in GoRules' JSON Decision Model with their examples, every version of them kept.

Evaluating one is `engine.decisions.evaluation`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

import msgspec

from engine.decisions.errors import DecisionNotFoundError
from engine.decisions.examples import Example
from engine.repository.aliases import drawn
from mesh.catalogue import Catalogue
from mesh.db import Transaction
from mesh.entries import Body, Entry
from mesh.errors import InvalidError
from mesh.pagination import Page

__all__ = ["Decision", "DecisionVersion", "Decisions", "number_of"]

_ALIAS = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


class Decision(msgspec.Struct, frozen=True):
    """A decision: its graph as text, the examples that it answers, the number of both, counted from 1, and aliases.

    An alias stands for versions, each with its weight.
    """

    graph: str
    version: int = 1
    examples: tuple[Example, ...] = ()
    aliases: dict[str, dict[int, int]] = {}


class DecisionVersion(msgspec.Struct, frozen=True):
    """A graph with its examples as it was at one time; it never changes."""

    graph: str
    examples: tuple[Example, ...] = ()


class Decisions(Catalogue):
    """Keeps decisions; every change of a graph or its examples keeps the ones before."""

    async def version(
        self, name: str, version: int, *, alias: str = "", share: float = 0.0
    ) -> tuple[DecisionVersion, int]:
        """A version of a decision and its number; 0 asks for the newest.

        Args:
            name: the decision's.
            version: its number.
            alias: a name for a version, in place of the number.
            share: which of an alias' versions it is to be, from 0 to 1.

        Raises:
            NotFoundError: there is no such decision.
            DecisionNotFoundError: there is no such version or alias.
        """
        entry = await self.get(Decision, name)
        newest = entry.body
        if alias:
            if alias not in newest.aliases:
                known = ", ".join(sorted(newest.aliases)) or "none"
                raise DecisionNotFoundError(f"{name} has no alias `{alias}`; it has {known}", alias=alias)
            version = drawn(newest.aliases[alias], share)
        if version in (0, newest.version):
            return DecisionVersion(newest.graph, newest.examples), newest.version
        if version > newest.version:
            raise DecisionNotFoundError(
                f"{name} has no version {version}; the newest is {newest.version}", version=version
            )
        kept = await self.get(DecisionVersion, _version_name(name, version))
        return kept.body, version

    async def page(self, kind: type[Body], parent: str, page: Page) -> list[Entry[Body]]:
        """As any catalogue's; versions come newest first."""
        if kind is not DecisionVersion:
            return await super().page(kind, parent, page)

        def work(transaction: Transaction) -> list[Entry[Body]]:
            newest = self.found(transaction, Decision, parent).body.version
            first = newest if page.cursor is None else number_of(page.cursor) - 1
            numbers = range(first, max(0, first - page.limit - 1), -1)
            return [self.found(transaction, kind, _version_name(parent, number)) for number in numbers]

        return await self._database.read(work)

    @staticmethod
    def changer(changed: dict[str, Any], labels: dict[str, str] | None) -> Callable[[Entry[Decision]], Entry[Decision]]:
        """What changes an entry to new fields; another graph, or other examples, are another version."""

        def change(entry: Entry[Decision]) -> Entry[Decision]:
            body = msgspec.structs.replace(entry.body, **changed)
            if (body.graph, body.examples) != (entry.body.graph, entry.body.examples):
                body = msgspec.structs.replace(body, version=entry.body.version + 1)
            return replace(entry, body=body, labels=entry.labels if labels is None else labels)

        return change

    def check(self, _: Transaction, entry: Entry[Any]) -> None:
        """Refuse aliases that cannot be."""
        if not isinstance(entry.body, Decision):
            return
        for alias, weights in entry.body.aliases.items():
            field = f"decision.aliases[{alias[:64]}]"
            if not _ALIAS.fullmatch(alias):
                raise InvalidError(field, "must have lower-case letters, digits and hyphens, and begin with a letter")
            for version in weights:
                if not 1 <= version <= entry.body.version:
                    raise InvalidError(field, f"there is no version {version}; the newest is {entry.body.version}")
            if not weights:
                raise InvalidError(field, "must name a version; leave the alias out to remove it")

    def wrote(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Keep the graph and its examples under their version's number."""
        if not isinstance(entry.body, Decision):
            return
        name = _version_name(entry.name, entry.body.version)
        if not self._rows.taken(transaction, DecisionVersion, name):
            uid = str(uuid5(UUID(entry.uid), str(entry.body.version)))
            body = DecisionVersion(entry.body.graph, entry.body.examples)
            now = entry.update_time
            self._rows.add(transaction, Entry(name, uid, 1, now, now, body))

    def deleting(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Versions go with their decision."""
        for version in range(1, entry.body.version + 1):
            self._rows.bury(transaction, DecisionVersion, _version_name(entry.name, version), forever=False)


def number_of(version: str) -> int:
    """The number of a version, by its name."""
    return int(version.rsplit("/", 1)[1])


def _version_name(decision: str, version: int) -> str:
    return f"{decision}/versions/{version}"
