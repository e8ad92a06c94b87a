"""What operators do with models and versions once these are kept: load, unload, change and delete them.

What a change comes to in memory is `engine.repository.loading`'s; how versions come in is `engine.repository.pushed`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

import structlog

from engine.errors import ReadOnlyModelError, StorageUnavailableError, VersionAliasedError, VersionServingError
from engine.repository.changes import ModelChange, changed_model, check_change
from engine.repository.completion import to_the_end
from engine.repository.loading import Loading
from engine.repository.memory import Memory
from engine.repository.models import Hold, Model, ModelVersion, version_name
from engine.repository.policy import aliased, desired, hold_of
from engine.repository.ports import ModelStorage
from engine.repository.records import Records, model_of, number_of
from mesh.entries import Body, Entry, entry_etag
from mesh.etag import check_etag
from mesh.identity import SYSTEM_TENANT
from mesh.resource import tenant_of

__all__ = ["Lifecycle"]


class Lifecycle:
    """Changes models and versions, one change after the other; a caller who goes away leaves none half made.

    Args:
        memory: where versions answer.
        records: what is kept of them.
        loading: brings them into memory, and lets them go.
        storage: keeps their files.
        state: says whether a version answers requests, here or in another engine.
        alone: keeps everybody else from changing anything meanwhile.
    """

    def __init__(
        self,
        memory: Memory,
        records: Records,
        loading: Loading,
        storage: ModelStorage,
        state: Callable[[Entry[ModelVersion]], str],
        alone: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        self._memory = memory
        self._records = records
        self._loading = loading
        self._storage = storage
        self._state = state
        self._alone = alone
        self._log = structlog.get_logger("engine.repository")

    async def load(self, name: str) -> Entry[ModelVersion]:
        """Bring a version into memory; one that is there already stays, and so does one outside the policy."""
        async with self._alone():
            entry = await self._records.catalogue.get(ModelVersion, name)
            if name not in self._memory:
                self._loading.forgive(name)
                await self._loading.load(entry)
            hold = await self._hold(name, loaded=True)
            self._memory.pin(name, pinned=hold is Hold.LOADED)
            await self._records.note(name, wanted=True, hold=hold, failure="")
            await to_the_end(self._loading.settle(model_of(name)))
            return await self._records.catalogue.get(ModelVersion, name)

    async def unload(self, name: str) -> Entry[ModelVersion]:
        """Take a version out of memory, after it has answered what it was asked.

        Where the policy then reaches further back, an older version comes in first.

        Raises:
            VersionAliasedError: an alias names it.
            BackboneInUseError: another model stands on it.
        """
        async with self._alone():
            await self._records.catalogue.get(ModelVersion, name)
            self._refuse_system(name)
            model = model_of(name)
            self._refuse_aliased([name], await self._records.catalogue.get(Model, model))
            hold = await self._hold(name, loaded=False)
            if self._memory.holds(name):
                left = await self._left(model, number_of(name))
                self._memory.refuse_backbone(model, number_of(name) if left else 0)
            entry = await to_the_end(self._unload(name, hold))
        await self._memory.closed([name])
        return entry

    async def unload_all(self, model: str) -> None:
        """Take all versions of a model out of memory, as `unload`; where one of them may not go, all stay.

        Raises:
            VersionAliasedError: an alias names one.
            BackboneInUseError: another model stands on one.
        """
        async with self._alone():
            self._refuse_system(model)
            row = await self._records.catalogue.get(Model, model)
            entries = await self._records.versions_of(model)
            names = {version_name(model, number): entries[number].body for number in sorted(entries)}
            self._refuse_aliased(names, row)
            if self._memory.versions_of(model):
                self._memory.refuse_backbone(model)
            await to_the_end(self._unload_all(row, names))
        await self._memory.closed(names)

    async def update_model(self, name: str, etag: str, change: ModelChange) -> Entry[Model]:
        """Change a model's policy, aliases or labels, and load and unload accordingly.

        Raises:
            InvalidError: it names a version that there is not.
            AliasNotReadyError: an alias would name a version that does not answer.
            BackboneInUseError: nothing of what another model stands on would be left.
            StaleEtagError: it is no longer the one that the caller has read.
        """
        async with self._alone():
            self._refuse_system(name)
            entry = await self._records.catalogue.get(Model, name)
            check_etag(etag, entry_etag(entry), name)
            versions = {number: each.body for number, each in (await self._records.versions_of(name)).items()}
            changed = changed_model(entry, change)
            check_change(entry, changed, change, versions, self._memory.versions_of(name))
            if self._memory.versions_of(name) and not desired(changed.body, versions):
                self._memory.refuse_backbone(name)
            if change.validate_only:
                return changed
            return await to_the_end(self._update(changed, etag, change))

    async def delete_version(self, name: str, etag: str) -> None:
        """Delete one version.

        Raises:
            VersionServingError: it is, or shall be, in memory.
            VersionAliasedError: an alias names it.
            StaleEtagError: it is no longer the one that the caller has read.
        """
        async with self._alone():
            entry = await self._records.catalogue.get(ModelVersion, name)
            self._refuse_system(name)
            check_etag(etag, entry_etag(entry), name)
            self._refuse_aliased([name], await self._records.catalogue.get(Model, model_of(name)))
            if entry.body.wanted and self._state(entry) in ("READY", "LOADING", "EVICTED"):
                raise VersionServingError(f"{name} serves; unload it first, then delete it", resource=name)
            await to_the_end(self._delete(ModelVersion, name, etag, [name], partial(self._storage.remove, name)))
        await self._memory.closed([name])

    async def delete_model(self, name: str, etag: str) -> None:
        """Delete a model with all its versions, those in memory too, and its aliases.

        Raises:
            BackboneInUseError: another model stands on it.
            StaleEtagError: it is no longer the one that the caller has read.
        """
        async with self._alone():
            entry = await self._records.catalogue.get(Model, name)
            self._refuse_system(name)
            check_etag(etag, entry_etag(entry), name)
            names = [version_name(name, number) for number in self._memory.versions_of(name)]
            if names:
                self._memory.refuse_backbone(name)
            await to_the_end(self._delete(Model, name, etag, names, partial(self._storage.remove_model, name)))
            self._memory.set_aliases(name, {})
        await self._memory.closed(names)

    async def _hold(self, name: str, *, loaded: bool) -> Hold:
        """What is to be remembered of a version that an operator loads or unloads."""
        model = model_of(name)
        row = await self._records.known(Model, model)
        versions = {number: each.body for number, each in (await self._records.versions_of(model)).items()}
        return hold_of(row.body if row else Model(), versions, number_of(name), loaded=loaded)

    async def _left(self, model: str, number: int) -> bool:
        """Whether anything of a model shall be in memory without one of its versions."""
        row = await self._records.catalogue.get(Model, model)
        versions = {each: entry.body for each, entry in (await self._records.versions_of(model)).items()}
        return bool(desired(row.body, versions, {number}))

    async def _unload(self, name: str, hold: Hold) -> Entry[ModelVersion]:
        await self._records.note(name, wanted=False, hold=hold, failure="")
        await self._loading.settle(model_of(name))
        self._memory.let_go(name)
        return await self._records.catalogue.get(ModelVersion, name)

    async def _unload_all(self, row: Entry[Model], versions: Mapping[str, ModelVersion]) -> None:
        for name, body in versions.items():
            number = number_of(name)
            hold = hold_of(row.body, {number: body}, number, loaded=False)  # none takes the place of another
            await self._records.note(name, wanted=False, hold=hold, failure="")
        for name in versions:
            self._memory.let_go(name)
        await self._loading.settle(row.name)

    async def _update(self, changed: Entry[Model], etag: str, change: ModelChange) -> Entry[Model]:
        name = changed.name
        entry = await self._records.catalogue.update(Model, name, etag, lambda now: changed_model(now, change))
        if change.policy is not None:
            for number, version in (await self._records.versions_of(name)).items():
                self._memory.pin(version_name(name, number), pinned=False)
                if version.body.hold is not Hold.NONE:
                    await self._records.note(version_name(name, number), hold=Hold.NONE)
        self._memory.set_aliases(name, entry.body.aliases)
        await self._loading.settle(name)
        return entry

    async def _delete(
        self, kind: type[Body], name: str, etag: str, loaded: Sequence[str], remove: Callable[[], None]
    ) -> None:
        """Delete an entry first: where that is refused, everything stays as it is."""
        await self._records.catalogue.delete(kind, name, etag)
        self._loading.forgive(name)
        for each in loaded:
            self._memory.let_go(each)
        try:
            await asyncio.to_thread(remove)
        except StorageUnavailableError as error:  # it is deleted all the same; a push under its name takes its place
            self._log.warning("files not removed", model=name, error=error.message)

    @staticmethod
    def _refuse_aliased(names: Iterable[str], model: Entry[Model]) -> None:
        for name in names:
            if number_of(name) in aliased(model.body):
                alias = next(alias for alias, weights in model.body.aliases.items() if number_of(name) in weights)
                raise VersionAliasedError(
                    f"{name} is what the alias `{alias}` names; change the alias first", resource=name, alias=alias
                )

    @staticmethod
    def _refuse_system(name: str) -> None:
        if tenant_of(name) == SYSTEM_TENANT:
            raise ReadOnlyModelError(f"{name} ships with the platform and stays as it is", resource=name)
