"""Versions brought into memory and let go, as policy, aliases and operators say together.

Who may change what is `engine.repository.lifecycle`'s; what is here runs while nobody else changes anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import structlog

from engine.errors import AsideError, EngineError, NoRoomError, StorageUnavailableError
from engine.repository.completion import by_its_own_task, to_the_end
from engine.repository.faults import Faults
from engine.repository.folders import bytes_in
from engine.repository.loaded import Loaded
from engine.repository.marks import Marks
from engine.repository.memory import Memory
from engine.repository.models import File, Hold, Model, ModelVersion, instances_of
from engine.repository.opening import Opener
from engine.repository.policy import desired
from engine.repository.records import Records, number_of
from engine.repository.room import Room, Size
from engine.repository.signatures import Signatures
from engine.repository.warm_up import warm_up
from engine.runtime.apart import Apart
from engine.runtime.ledger import Claim
from mesh.catalogue import NotFoundError
from mesh.entries import Entry
from mesh.identity import SYSTEM_TENANT
from mesh.resource import tenant_of

__all__ = ["Loading", "Places", "warmed"]


_MOST_BASES = 64
"""So many models that one stands on are brought back for it."""


class Places(Protocol):
    """Where versions' files are."""

    def fetch(self, name: str, files: Sequence[File]) -> Path:
        """A version's folder, with its files in it. Blocks."""


class Loading:
    """Loads versions.

    Args:
        memory: where they come.
        records: what is kept of them.
        opener: makes models of their files.
        places: knows where those are.
        room: how much all of them may take.
        signatures: looks at each version before it is opened; None where none is asked for.
        apart: opens what is pushed in a process of its own first; None where that is not asked for.
        marks: knows what was being loaded when the engine last ended.
        faults: knows what ended it while it computed; None where nothing is kept of that.
    """

    def __init__(
        self,
        memory: Memory,
        records: Records,
        opener: Opener,
        places: Places,
        room: Room,
        signatures: Signatures | None,
        apart: Apart | None,
        marks: Marks,
        faults: Faults | None,
    ) -> None:
        self._faults = faults
        self._apart = apart
        self._marks = marks
        self._signatures = signatures
        self._room = room
        self._memory = memory
        self._records = records
        self._opener = opener
        self._places = places
        self._loading: set[str] = set()
        self._log = structlog.get_logger("engine.repository")

    def state(self, entry: Entry[ModelVersion]) -> str:
        """Whether a version answers requests."""
        if entry.name in self._loading:
            return "LOADING"
        if entry.name in self._memory:
            return "READY"
        if self._memory.is_aside(entry.name):
            return "EVICTED"
        return "FAILED" if entry.body.failure else "UNLOADED"

    async def check(self, name: str, folder: Path) -> None:
        """Look at what was pushed before anything of it is opened here.

        Raises:
            SignatureError: it is not what somebody who is trusted has signed.
            EngineError: its graphs end the process that opens them, or take too much of it.
        """
        if self._signatures is not None:
            await asyncio.to_thread(self._signatures.check, name, folder)
        if self._apart is not None:
            await self._apart.check(folder)

    async def open(self, name: str, folder: Path) -> Loaded:
        """Make a version's servable from its files, once there is room for it; what it stands on comes back first.

        Raises:
            SignatureError: they are not what somebody who is trusted has signed.
            EngineError: they make no model.
            ModelTooBigError, NoRoomError: there is no room for it.
        """
        signed_by = await asyncio.to_thread(self._signatures.check, name, folder) if self._signatures else ""
        manifest = await asyncio.to_thread(self._opener.manifest, name, folder)
        size = Size(await asyncio.to_thread(bytes_in, folder), instances_of(manifest))
        needs = self._room.needs(name, size)
        below = [await self._records.known(ModelVersion, base) for base in self._memory.based(name, manifest.stands_on)]
        self._room.check(name, needs, [self._needs(entry) for entry in below if entry is not None])
        claim = await self._room.make(name, needs)
        try:
            opened, grown = await self._open(name, folder, claim)
        except BaseException:  # a cancelled load, too, gives back the room that was kept for it
            claim.release()
            raise
        try:
            await self._room.grow(name, size, claim, grown)
            for base in self._memory.based(name, manifest.stands_on):  # of an alias all: each request may draw another
                if self._memory.is_aside(base):
                    await self._bring_base(base)
        except BaseException:  # a cancelled load, too, leaves nothing in memory
            await to_the_end(asyncio.to_thread(opened.close))
            raise
        return replace(opened, signed_by=signed_by)

    async def _open(self, name: str, folder: Path, claim: Claim) -> tuple[Loaded, Mapping[str, int]]:
        """A version's servable, and what memory grew by for it; what it stands on comes back first."""
        for _ in range(_MOST_BASES):
            growth = self._room.growth(claim.needs)
            try:
                opened = await self._opener.open(name, folder, self._memory.find)
            except AsideError as error:
                await self._bring_base(str(error.metadata["resource"]))
            else:
                return replace(opened, claim=claim), growth.bytes()
        raise NoRoomError(f"what {name} stands on does not stay in memory beside it", resource=name)

    async def load(self, entry: Entry[ModelVersion]) -> None:
        """Open a version, warm it up, and let it answer.

        Raises:
            ModelFaultError: it ended the engine, and nobody has asked for it since.
            EngineError: its files make no model, or it fails what it is warmed up with; then it does not answer.
        """
        await by_its_own_task(self._load(entry))  # what it stands on is in use until then; the engine's own never ends

    async def _load(self, entry: Entry[ModelVersion]) -> None:
        if self._faults is not None:
            self._faults.check(entry.name)
        self._loading.add(entry.name)
        try:
            folder = await asyncio.to_thread(self._places.fetch, entry.name, entry.body.files)
            suspect = self._marks.left(entry.name)  # it may be what ended the engine
            with self._marks.during(entry.name):
                if suspect and self._apart is not None:
                    await self._apart.check(folder)
                loaded = await self.open(entry.name, folder)
                await warmed(loaded)
            self._memory.pin(entry.name, pinned=entry.body.hold is Hold.LOADED)
            self._memory.enter(loaded, entry.uid)
        finally:
            self._loading.discard(entry.name)
        await self._well(entry)

    def forgive(self, name: str) -> None:
        """Whatever a version, or a model's, did to the engine before is forgotten."""
        if self._faults is not None:
            self._faults.forgive(name)

    async def attempt(self, entry: Entry[ModelVersion]) -> bool:
        """Load a version that shall be in memory; what keeps it from that is noted on it, and all others go on."""
        if not self._room.has(self._needs(entry)):  # what is in memory is not put aside for what nobody asks yet
            self._memory.set_aside(entry.name, entry.uid)
            await self._well(entry)
            return True
        try:
            await self.load(entry)
        except (NoRoomError, StorageUnavailableError):  # it is tried again when it is asked
            self._memory.set_aside(entry.name, entry.uid)
            await self._well(entry)
        except Exception as error:  # noqa: BLE001 -- files that are gone, or no memory: of this version alone
            failure = error.message if isinstance(error, EngineError) else f"it failed to load: {type(error).__name__}"
            self._log.warning(
                "model not loaded", model=entry.name, error=failure, exc_info=not isinstance(error, EngineError)
            )
            # Engines that fail for different reasons would otherwise go on writing theirs over the other's for ever.
            if failure != entry.body.failure and not (self._memory.ready and entry.body.failure):
                await self._note(entry.name, failure)
            return False
        return True

    async def _well(self, entry: Entry[ModelVersion]) -> None:
        """Forget why a version could not be loaded before."""
        if entry.body.failure:
            await self._note(entry.name, "")

    async def _note(self, name: str, failure: str) -> None:
        with suppress(NotFoundError):  # another engine has just deleted it
            await self._records.note(name, failure=failure)

    def _needs(self, entry: Entry[ModelVersion]) -> Mapping[str, int]:
        size = Size(sum(file.size_bytes for file in entry.body.files), entry.body.instances)
        return self._room.needs(entry.name, size)

    async def _bring_base(self, name: str) -> None:
        """Have in memory what a version that is being opened stands on, and keep it there meanwhile."""
        await self.load(await self._records.catalogue.get(ModelVersion, name))
        loaded, task = self._memory.named(name), asyncio.current_task()
        if loaded is not None and task is not None:
            loaded.uses.by(task)

    async def settle(self, model: str, failed: Collection[int] = ()) -> None:
        """Bring a model's versions to what shall be: new ones answer first, then the others go.

        Where a version cannot be loaded, the ones before it stay, or come back.

        Args:
            model: its name.
            failed: versions that were tried just now, in vain.
        """
        if tenant_of(model) == SYSTEM_TENANT:
            return
        row = await self._records.catalogue.get(Model, model)
        entries = await self._records.versions_of(model)
        bodies = {number: entry.body for number, entry in entries.items()}
        lost = set(failed)
        while missing := [
            entries[number]
            for number in sorted(desired(row.body, bodies, lost))
            if not self._memory.holds(entries[number].name)
        ]:
            for entry in missing:
                if not await self.attempt(entry):
                    lost.add(number_of(entry.name))
        kept = desired(row.body, bodies, lost) | desired(row.body, bodies) | self._memory.stood_on(model)
        for number, entry in entries.items():
            if entry.body.wanted != (number in kept):
                await self._records.note(entry.name, wanted=number in kept)
        for number in self._memory.versions_of(model):
            if number not in kept:
                self._memory.let_go(f"{model}/versions/{number}", swapped=bool(kept))


async def warmed(loaded: Loaded) -> None:
    """Warm a version up that was just opened; where it fails, its memory is given back.

    Raises:
        WarmUpError: it fails.
    """
    try:
        await warm_up(loaded.servable, loaded.manifest)
    except BaseException:  # a cancelled load, too, leaves nothing in memory
        await to_the_end(asyncio.to_thread(loaded.close))
        raise
