"""The model repository: versions on disk and in memory, and how a request finds the one that it means.

A version is a folder that appears whole. Rows are `engine.repository.records`', what is in memory is
`engine.repository.memory`'s; how versions come in is `engine.repository.pushed`'s, what operators do with them
`engine.repository.lifecycle`'s. Here is what keeps those apart: one change after the other.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from engine.adapters.models_in_folder import FolderStorage
from engine.errors import (
    AsideError,
    EngineError,
    ModelFailedError,
    ModelNotFoundError,
    NoRoomError,
    StorageUnavailableError,
)
from engine.repository.faults import Faults
from engine.repository.folders import sweep
from engine.repository.lifecycle import Lifecycle
from engine.repository.loaded import Loaded
from engine.repository.loading import Loading
from engine.repository.marks import Marks
from engine.repository.memory import Memory, candidates
from engine.repository.models import File, Model, ModelVersion, loading_order
from engine.repository.opening import Opener
from engine.repository.ports import ModelStorage
from engine.repository.pushed import Pushed
from engine.repository.recall import Recall
from engine.repository.records import Records, model_of, number_of
from engine.repository.resumable_uploads import ResumableUploads
from engine.repository.room import Room
from engine.repository.sharing import Sharing
from engine.repository.signatures import Signatures
from engine.repository.system import SystemModels
from engine.runtime.apart import Apart
from engine.runtime.device_memory import DeviceMemory
from engine.scheduler.terms import Terms
from mesh.catalogue import Catalogue
from mesh.entries import Entry
from mesh.identity import SYSTEM_TENANT
from mesh.resource import fits, tenant_of

__all__ = ["Repository"]


_MODEL = "tenants/{tenant}/models/{model}"
_TRIES = 3
"""So often a request has a version brought back that is put aside again before it is found."""


class Repository:
    """Keeps models.

    Args:
        folder: where versions are, below a folder a tenant and a model.
        system: where the models that ship with the platform are; they are read only.
        catalogue: keeps what is known of them.
        opener: makes models of their files.
        sharing: how the folder is shared with other engines.
        reading: tells how much memory is in use; None for this machine's own.
        signatures: looks at each version before it is opened; None where none is asked for.
        apart: opens what is pushed in a process of its own first; None where that is not asked for.
        faults: knows which versions ended the engine; None where nothing is kept of that.
        storage: keeps the tenants' versions; None for the folder itself.
        draw: a number from 0 to 1, for a request to an alias of several versions.

    Attributes:
        uploads: what is on its way, file by file.
        pushed: takes uploads in that are whole.
        lifecycle: loads, unloads, changes and deletes what is kept.
    """

    def __init__(
        self,
        folder: Path,
        system: Path | None,
        catalogue: Catalogue,
        opener: Opener,
        sharing: Sharing,
        *,
        reading: DeviceMemory | None = None,
        signatures: Signatures | None = None,
        apart: Apart | None = None,
        faults: Faults | None = None,
        storage: ModelStorage | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.folder = folder
        self.sharing = sharing
        self.uploads = ResumableUploads(folder / ".uploads")
        self._system = system
        self._storage = storage or FolderStorage(folder)
        self._catalogue = catalogue
        self._opener = opener
        self._memory = Memory(draw)
        self._records = Records(catalogue)
        session = opener.session
        room = Room(self._memory, session.ledger, session.device, reading or DeviceMemory())
        marks = Marks(folder / f".loading-{sharing.process}")
        self._loading = Loading(self._memory, self._records, opener, self, room, signatures, apart, marks, faults)
        self._ships = SystemModels(system, self._records, self._loading, self._memory)
        self._recall = Recall(self._bring)
        self._changing = asyncio.Lock()
        kept = (self._memory, self._records, self._loading, self._storage)
        self.pushed = Pushed(*kept, self.alone)
        self.lifecycle = Lifecycle(*kept, self.state, self.alone)

    async def start(self) -> None:
        """Remove what never became whole, take in what ships with the platform, load what shall be in memory."""
        async with self.alone():
            await asyncio.to_thread(sweep, self.folder, self.sharing.left_behind, self.sharing.uploads)
            await self._ships.take_in()
        await self._read_aliases()
        failed: dict[str, set[int]] = {}
        for entry in sorted(await self._catalogue.every(ModelVersion), key=loading_order):
            async with self._changing:  # between two of them others may push, unload and delete already
                if not await self._begin_with(entry.name):
                    failed.setdefault(model_of(entry.name), set()).add(number_of(entry.name))
        async with self.alone():  # what was cut off in the midst of a change comes to its end
            for model in await self._catalogue.every(Model):
                await self._loading.settle(model.name, failed.get(model.name, ()))
        self._memory.ready = True

    @property
    def ready(self) -> bool:
        """Whether everything that shall be in memory has been tried once; what could not be loaded says why itself."""
        return self._memory.ready

    async def _begin_with(self, name: str) -> bool:
        """Load a version that shall be in memory as the engine starts; False where it cannot be."""
        entry = await self._records.known(ModelVersion, name)
        shipped = self._shipped(name)
        ships_no_more = tenant_of(name) == SYSTEM_TENANT and not (shipped and shipped.is_dir())
        if entry is None or not entry.body.wanted or self._memory.holds(name) or ships_no_more:
            return True
        return await self._loading.attempt(entry)

    async def stop(self) -> None:
        """Give all memory back."""
        await self._recall.close()
        await self._memory.close()
        await self._opener.close()

    def find(self, tenant: str, name: str, version: str, key: str = "") -> Loaded:
        """A version in memory, as `Memory.find`.

        Raises:
            ModelNotFoundError: nothing of that name is in memory.
            ModelNotReadyError: the engine is still loading.
            VersionNotFoundError: that version is not.
        """
        return self._memory.find(tenant, name, version, key)

    async def found(self, tenant: str, name: str, version: str, key: str = "") -> Loaded:
        """As `find`, and it stays in memory as long as the task that asks; what was put aside comes back first."""
        loaded = self._memory.fixed.get((tenant, name, version)) or await self._sought(tenant, name, version, key)
        return self._held(loaded)

    async def found_for(self, tenant: str, name: str, version: str, terms: Terms, key: str = "") -> Loaded:
        """As `found`; a sequence goes on where it is under way, whatever version answers others by now."""
        running = self._memory.of_sequence(tenant, name, terms)
        if running is not None and (not version.isdecimal() or version == str(running.version)):
            return self._held(running)
        return await self.found(tenant, name, version, key)

    def serving(self, model: str) -> int:
        """The version that answers requests which name none; 0 while none is loaded."""
        return self._memory.serving(model)

    def state(self, entry: Entry[ModelVersion]) -> str:
        """Whether a version answers requests."""
        return self._loading.state(entry)

    def in_memory(self) -> list[Loaded]:
        """Every version in memory, whosever it is."""
        return self._memory.every()

    def versions_of(self, model: str) -> list[int]:
        """The versions of a model that are in memory."""
        return self._memory.versions_of(model)

    def serving_of(self, tenant: str) -> list[str]:
        """The models of a tenant, by name, that have a version which answers."""
        return self._memory.serving_of(tenant)

    def meant_by(self, tenant: str, name: str) -> str:
        """The full name of the model that a caller's name means; empty where none of that name answers."""
        return self._memory.meant_by(tenant, name)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Keep everybody else from changing anything meanwhile, in this engine and others."""
        async with self._changing, self.sharing.alone():
            yield

    def fetch(self, name: str, files: Sequence[File]) -> Path:
        """A version's folder, with its files in it. Blocks."""
        return self._shipped(name) or self._storage.fetch(name, files)

    def _shipped(self, name: str) -> Path | None:
        """The folder of what ships with the platform; None for all else."""
        if tenant_of(name) != SYSTEM_TENANT or self._system is None:
            return None
        model, number = name.rsplit("/versions/", 1)
        return self._system / model.rsplit("/", 1)[1] / number

    async def _bring(self, name: str) -> None:
        """Load a version that was put aside; what keeps it from that is noted on it, and it is put aside no more.

        Raises:
            EngineError: it cannot be loaded.
        """
        async with self._changing:
            entry = await self._records.known(ModelVersion, name)
            if name in self._memory or not self._memory.is_aside(name):
                return
            if entry is None or entry.uid != self._memory.uid(name):
                self._memory.let_go(name)
                return
            try:
                await self._loading.load(entry)
            except (NoRoomError, StorageUnavailableError):
                raise
            except EngineError as error:
                self._memory.let_go(name)
                await self._records.note(name, failure=error.message)
                raise

    async def _sought(self, tenant: str, name: str, version: str, key: str) -> Loaded:
        """As `find`; what was put aside comes back first, and of what could not be loaded it is said why.

        Raises:
            ModelFailedError: that is so.
        """
        for _ in range(_TRIES):
            try:
                return self.find(tenant, name, version, key)
            except AsideError as error:
                await self._recall(str(error.metadata["resource"]))
            except ModelNotFoundError:
                await self._refuse_failed(tenant, name.partition(":")[0])
                raise
        return self.find(tenant, name, version, key)

    async def _refuse_failed(self, tenant: str, name: str) -> None:
        for model in candidates(tenant, name):
            versions = await self._records.versions_of(model) if fits(_MODEL, model) else {}
            for number, entry in sorted(versions.items(), reverse=True):
                if entry.body.wanted and (why := entry.body.failure):
                    said = f"version {number} of {model} could not be loaded: {why}"
                    raise ModelFailedError(said, resource=entry.name)

    def _held(self, loaded: Loaded) -> Loaded:
        task = asyncio.current_task()
        if task is not None:
            loaded.uses.by(task)
        return loaded

    async def _read_aliases(self) -> None:
        for model in await self._catalogue.every(Model):
            self._memory.set_aliases(model.name, model.body.aliases)
