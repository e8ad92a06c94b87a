"""Uploads that are whole become versions: opened, warmed up, kept, and let answer.

How files arrive is `engine.repository.upload`'s and `engine.repository.resumable_uploads`'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import msgspec

from engine.errors import EngineError, StorageUnavailableError, VersionExistsError
from engine.repository.completion import to_the_end
from engine.repository.loaded import Loaded
from engine.repository.loading import Loading, warmed
from engine.repository.memory import Memory
from engine.repository.models import File, Hold, Model, ModelVersion, Provenance, description, version_name
from engine.repository.ports import ModelStorage
from engine.repository.records import Records
from engine.variants.reports import VariantReport
from mesh.entries import Entry
from mesh.resource import tenant_of

__all__ = ["Pushed"]


class Pushed:
    """Takes uploads in.

    Args:
        memory: where versions answer.
        records: what is kept of them.
        loading: opens them.
        storage: keeps their files.
        alone: keeps everybody else from changing anything meanwhile.
    """

    def __init__(
        self,
        memory: Memory,
        records: Records,
        loading: Loading,
        storage: ModelStorage,
        alone: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        self._memory = memory
        self._records = records
        self._loading = loading
        self._storage = storage
        self._alone = alone

    async def known_files(self, tenant: str) -> dict[str, list[Path]]:
        """Where files of a tenant's versions are, by their SHA-256."""
        found: dict[str, list[Path]] = {}
        for entry in await self._records.catalogue.every(ModelVersion):
            if tenant_of(entry.name) == tenant:
                for file in entry.body.files:
                    found.setdefault(file.sha256, []).append(self._storage.of(entry.name) / file.path)
        return found

    async def by(self, model: str, request_id: str) -> Entry[ModelVersion] | None:
        """The version that a push made before; None where none did."""
        if not request_id:
            return None
        versions = await self._records.versions_of(model)
        return next((entry for entry in versions.values() if entry.body.request_id == request_id), None)

    async def keep(
        self,
        model: str,
        version: int,
        staged: Path,
        files: Sequence[File],
        labels: dict[str, str],
        *,
        load: bool,
        request_id: str = "",
        provenance: Provenance | None = None,
        variant: VariantReport | None = None,
    ) -> Entry[ModelVersion]:
        """Take in an upload that is whole; it is opened before it is kept, so that what is kept can be loaded.

        A version that then fails what it is warmed up with is kept and FAILED, and the version before goes on.

        Raises:
            VersionExistsError: there is such a version.
            EngineError: the upload is no model.
        """
        if (earlier := await self.by(model, request_id)) is not None:
            return earlier
        await self._loading.check(model, staged)
        async with self._alone():
            if (earlier := await self.by(model, request_id)) is not None:
                return earlier
            current = await self._records.known(Model, model)
            number = version or (current.body.latest if current else 0) + 1
            name = version_name(model, number)
            if current is not None and await self._records.known(ModelVersion, name) is not None:
                raise VersionExistsError(f"{name} exists already; push another version", resource=name)
            loaded = await self._loading.open(name, staged)
            failure = ""
            if load:
                try:
                    await warmed(loaded)
                except EngineError as error:
                    failure = error.message
            body = description(
                loaded.manifest,
                loaded.servable,
                files,
                wanted=load,
                hold=Hold.NONE if load else Hold.UNLOADED,
                failure=failure,
                request_id=request_id,
                provenance=msgspec.structs.replace(provenance or Provenance(), key_id=loaded.signed_by),
                variant=variant,
            )
            return await to_the_end(self._take_in(loaded, staged, body, labels))

    async def _take_in(
        self, loaded: Loaded, staged: Path, body: ModelVersion, labels: dict[str, str]
    ) -> Entry[ModelVersion]:
        """Keep what was opened; where that fails neither files nor memory stay taken."""
        try:
            await asyncio.to_thread(self._storage.keep, loaded.name, staged, body.files)
            entry = await self._records.add(loaded.name, body, labels)
        except BaseException:  # a cancelled push, too, leaves neither files nor memory behind
            with suppress(StorageUnavailableError):
                await asyncio.to_thread(self._storage.remove, loaded.name)
            await asyncio.to_thread(loaded.close)
            raise
        if body.wanted and not body.failure:
            self._memory.enter(loaded, entry.uid)
        else:
            await asyncio.to_thread(loaded.close)
        await self._loading.settle(loaded.model, {loaded.version} if body.failure else ())
        return await self._records.catalogue.get(ModelVersion, loaded.name)
