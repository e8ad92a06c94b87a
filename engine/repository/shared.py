"""A repository whose folder and rows other engines change too: what they take in is loaded here, and goes with them."""

from __future__ import annotations

from typing import Any

from engine.errors import ModelNotFoundError, VersionNotFoundError
from engine.repository.models import ModelVersion, loading_order
from engine.repository.repository import Loaded, Repository
from engine.repository.sharing import Coalesced
from mesh.entries import Entry

__all__ = ["SharedRepository"]


class SharedRepository(Repository):
    """Keeps models together with other engines; alone it is a plain repository."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 -- the repository's own
        super().__init__(*arguments, **named)
        self._tried: dict[str, int] = {}
        self._look = Coalesced(self._follow)

    async def found(self, tenant: str, name: str, version: str) -> Loaded:
        """As `find`, after a look at what other engines have taken in where nothing is found at first."""
        try:
            return self.find(tenant, name, version)
        except (ModelNotFoundError, VersionNotFoundError):
            if not self.sharing.shared:
                raise
        await self.catch_up()
        return self.find(tenant, name, version)

    async def catch_up(self) -> None:
        """Load what other engines have taken in, let go of what they have unloaded or deleted."""
        if self._started:
            await self._look()

    def state(self, entry: Entry[ModelVersion]) -> str:
        """As for one engine; what another one has just taken in is LOADING here."""
        state = super().state(entry)
        return "LOADING" if state == "UNLOADED" and entry.body.wanted and self.sharing.shared else state

    async def _follow(self) -> None:
        """Come to what the rows say that shall be in memory; what fails is tried again when its row has changed."""
        async with self._changing:
            entries = {entry.name: entry for entry in await self._catalogue.every(ModelVersion)}
            for name in list(self._loaded):
                entry = entries.get(name)
                if entry is None or not entry.body.wanted or self._uids.get(name, entry.uid) != entry.uid:
                    self._let_go(name)
            for entry in sorted(entries.values(), key=loading_order):
                if (
                    entry.body.wanted
                    and entry.name not in self._loaded
                    and self._tried.get(entry.uid) != entry.revision
                ):
                    self._tried[entry.uid] = entry.revision
                    await self._try(entry)
            self._tried = {e.uid: self._tried[e.uid] for e in entries.values() if e.uid in self._tried}
