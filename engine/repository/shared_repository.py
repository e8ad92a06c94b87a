"""A repository whose folder and rows other engines change too: what they take in is loaded here, and goes with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import ModelNotFoundError, VersionNotFoundError
from engine.repository.loaded import Loaded
from engine.repository.models import Hold, ModelVersion, loading_order
from engine.repository.records import model_of
from engine.repository.repository import Repository
from engine.repository.sharing import Coalesced
from mesh.entries import Entry

__all__ = ["SharedRepository"]


class SharedRepository(Repository):
    """Keeps models together with other engines; alone it is a plain repository."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 -- the repository's own
        super().__init__(*arguments, **named)
        self._tried: dict[str, int] = {}
        self._look = Coalesced(self._follow)

    async def catch_up(self) -> None:
        """Load what other engines have taken in, let go of what they have unloaded or deleted."""
        if self._memory.ready:
            await self._look()

    def state(self, entry: Entry[ModelVersion]) -> str:
        """As for one engine; what another one has just taken in is LOADING here."""
        state = super().state(entry)
        return "LOADING" if state == "UNLOADED" and entry.body.wanted and self.sharing.shared else state

    async def _sought(self, tenant: str, name: str, version: str, key: str) -> Loaded:
        """As for one engine, after a look at what other engines have taken in where nothing is found at first."""
        try:
            return await super()._sought(tenant, name, version, key)
        except (ModelNotFoundError, VersionNotFoundError):
            if not self.sharing.shared:
                raise
        await self.catch_up()
        return await super()._sought(tenant, name, version, key)

    async def _follow(self) -> None:
        """Come to what the rows say that shall be in memory; what fails is tried again when its row has changed.

        New versions answer before those that they follow go; where they cannot be loaded here, those stay.
        """
        async with self._changing:
            await self._read_aliases()
            entries = {entry.name: entry for entry in await self._catalogue.every(ModelVersion)}
            for name in self._memory.names:
                if name not in entries or self._memory.uid(name) != entries[name].uid:
                    self._memory.let_go(name)
            for entry in sorted(entries.values(), key=loading_order):
                if (
                    entry.body.wanted
                    and not self._memory.holds(entry.name)
                    and self._tried.get(entry.uid) != entry.revision
                ):
                    self._tried[entry.uid] = entry.revision
                    await self._loading.attempt(entry)
                self._memory.pin(entry.name, pinned=entry.body.hold is Hold.LOADED)
            self._let_unwanted_go(entries)
            self._tried = {e.uid: self._tried[e.uid] for e in entries.values() if e.uid in self._tried}

    def _let_unwanted_go(self, entries: Mapping[str, Entry[ModelVersion]]) -> None:
        wanted = {name for name, entry in entries.items() if entry.body.wanted}
        models = {model_of(name) for name in wanted}
        answering = {model_of(name) for name in wanted if self._memory.holds(name)}
        for name in self._memory.names:
            if name not in wanted and (model_of(name) in answering or model_of(name) not in models):
                self._memory.let_go(name, swapped=model_of(name) in answering)
