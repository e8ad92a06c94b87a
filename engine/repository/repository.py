"""The model repository: versions on disk and in memory, and every step between the two.

A version is a folder that appears whole; what is in memory is looked up by tenant, model and version. The rows are
`mesh.catalogue`'s.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import structlog

from engine.errors import (
    BackboneInUseError,
    EngineError,
    ModelNotFoundError,
    ModelNotReadyError,
    ReadOnlyModelError,
    VersionExistsError,
    VersionNotFoundError,
    VersionServingError,
)
from engine.manifest import MANIFEST_FILE
from engine.repository.completion import to_the_end
from engine.repository.folders import files_in, move_into_place, sweep
from engine.repository.models import File, Model, ModelVersion, description, loading_order, version_name
from engine.repository.opening import Loaded, Opener
from engine.repository.sharing import Sharing
from mesh.catalogue import Catalogue, NotFoundError
from mesh.entries import Body, Creation, Entry, entry_etag
from mesh.etag import check_etag
from mesh.identity import SYSTEM_TENANT
from mesh.policy import PLATFORM
from mesh.resource import tenant_of

__all__ = ["Loaded", "Repository"]

_SYSTEM = f"{PLATFORM}/{SYSTEM_TENANT}"


class Repository:
    """Keeps models.

    Args:
        folder: where versions are, below a folder a tenant and a model.
        system: where the models that ship with the platform are; they are read only.
        catalogue: keeps what is known of them.
        opener: makes models of their files.
        sharing: how the folder is shared with other engines.
    """

    def __init__(
        self,
        folder: Path,
        system: Path | None,
        catalogue: Catalogue,
        opener: Opener,
        sharing: Sharing,
    ) -> None:
        self.folder = folder
        self.sharing = sharing
        self._system = system
        self._catalogue = catalogue
        self._opener = opener
        self._loaded: dict[str, Loaded] = {}
        self._uids: dict[str, str] = {}
        self._serving: dict[str, int] = {}
        self._loading: set[str] = set()
        self._closing: dict[asyncio.Future[None], str] = {}
        self._changing = asyncio.Lock()
        self._started = False
        self._log = structlog.get_logger("engine.repository")

    async def start(self) -> None:
        """Remove what never became whole, take in what ships with the platform, load what shall be in memory."""
        async with self.sharing.alone():
            await asyncio.to_thread(sweep, self.folder, self.sharing.uploads)
            await self._take_in_system_models()
        for entry in sorted(await self._catalogue.every(ModelVersion), key=loading_order):
            ships_no_more = tenant_of(entry.name) == SYSTEM_TENANT and not self._place(entry.name).is_dir()
            if entry.body.wanted and entry.name not in self._loaded and not ships_no_more:
                await self._try(entry)
        self._started = True

    async def stop(self) -> None:
        """Give all memory back."""
        for name in list(self._loaded):
            self._let_go(name)
        await self._closed(set(self._closing.values()))
        await self._opener.close()

    def find(self, tenant: str, name: str, version: str) -> Loaded:
        """A version in memory.

        Args:
            tenant: of the caller.
            name: a model's id, of the caller's tenant or else of `system`; or its full name.
            version: its number; empty for the newest that is loaded.

        Raises:
            ModelNotFoundError: nothing of that name is in memory.
            ModelNotReadyError: the engine is still loading.
            VersionNotFoundError: that version is not.
        """
        models = (
            [name]
            if name.startswith(f"{PLATFORM}/")
            else [f"{PLATFORM}/{tenant}/models/{name}", f"{_SYSTEM}/models/{name}"]
        )
        for model in models:
            serving = self._serving.get(model)
            if serving is None:
                continue
            wanted = version or str(serving)
            loaded = self._loaded.get(f"{model}/versions/{wanted}")
            if loaded is None:
                raise VersionNotFoundError(
                    f"version {wanted[:32]} of {name} is not loaded", model=name, version=wanted[:32]
                )
            return loaded
        if not self._started:
            raise ModelNotReadyError("the engine is still loading its models; try again", retry_after_s=0.5)
        raise ModelNotFoundError(
            f"there is no model `{name[:128]}` in memory; `tiation models list` shows which", model=name[:128]
        )

    async def found(self, tenant: str, name: str, version: str) -> Loaded:
        """As `find`; a look elsewhere may come first where nothing is found at once."""
        return self.find(tenant, name, version)

    def serving(self, model: str) -> int:
        """The version that answers requests which name none; 0 while none is loaded."""
        return self._serving.get(model, 0)

    def state(self, entry: Entry[ModelVersion]) -> str:
        """Whether a version answers requests."""
        if entry.name in self._loading:
            return "LOADING"
        if entry.name in self._loaded:
            return "READY"
        return "FAILED" if entry.body.failure else "UNLOADED"

    def versions_of(self, model: str) -> list[int]:
        """The versions of a model that are in memory."""
        return sorted(loaded.version for loaded in self._loaded.values() if loaded.model == model)

    async def keep(
        self, model: str, version: int, staged: Path, files: Sequence[File], labels: dict[str, str], *, load: bool
    ) -> Entry[ModelVersion]:
        """Take in an upload that is whole; it is opened before it is kept, so that what is kept can be loaded.

        Raises:
            VersionExistsError: there is such a version.
            EngineError: the upload is no model.
        """
        async with self._changing, self.sharing.alone():
            current = await self._known(Model, model)
            number = version or (current.body.latest if current else 0) + 1
            name = version_name(model, number)
            if current is not None and await self._known(ModelVersion, name) is not None:
                raise VersionExistsError(f"{name} exists already; push another version", resource=name)
            loaded = await self._open(name, staged)
            return await to_the_end(self._take_in(loaded, staged, current, files, labels, load=load))

    async def load(self, name: str) -> Entry[ModelVersion]:
        """Bring a version into memory; one that is there already stays."""
        async with self._changing, self.sharing.alone():
            entry = await self._catalogue.get(ModelVersion, name)
            if name not in self._loaded:
                await self._load(entry)
            return await self._note(name, wanted=True)

    async def unload(self, name: str) -> Entry[ModelVersion]:
        """Take a version out of memory, after it has answered what it was asked."""
        async with self._changing, self.sharing.alone():
            await self._catalogue.get(ModelVersion, name)
            self._refuse_system(name)
            loaded = self._loaded.get(name)
            if loaded is not None:
                self._refuse_backbone(loaded, whole=len(self.versions_of(loaded.model)) == 1)
            entry = await to_the_end(self._unload(name))
        await self._closed([name])
        return entry

    async def delete_version(self, name: str, etag: str) -> None:
        """Delete one version.

        Raises:
            VersionServingError: it is, or shall be, in memory.
            StaleEtagError: it is no longer the one that the caller has read.
        """
        async with self._changing, self.sharing.alone():
            entry = await self._catalogue.get(ModelVersion, name)
            self._refuse_system(name)
            check_etag(etag, entry_etag(entry), name)
            if entry.body.wanted and self.state(entry) in ("READY", "LOADING"):
                raise VersionServingError(f"{name} serves; unload it first, then delete it", resource=name)
            await to_the_end(self._delete(ModelVersion, name, etag, [name], self._place(name)))
        await self._closed([name])

    async def delete_model(self, name: str, etag: str) -> None:
        """Delete a model with all its versions, those in memory too.

        Raises:
            BackboneInUseError: another model stands on it.
            StaleEtagError: it is no longer the one that the caller has read.
        """
        async with self._changing, self.sharing.alone():
            entry = await self._catalogue.get(Model, name)
            self._refuse_system(name)
            check_etag(etag, entry_etag(entry), name)
            loaded = [each for each in self._loaded.values() if each.model == name]
            for each in loaded:
                self._refuse_backbone(each, whole=True)
            names = [each.name for each in loaded]
            await to_the_end(self._delete(Model, name, etag, names, self._place(f"{name}/versions/0").parent))
        await self._closed(names)

    async def _unload(self, name: str) -> Entry[ModelVersion]:
        entry = await self._note(name, wanted=False)
        self._let_go(name)
        return entry

    async def _delete(self, kind: type[Body], name: str, etag: str, loaded: Sequence[str], folder: Path) -> None:
        """Delete an entry first: where that is refused, everything stays as it is."""
        await self._catalogue.delete(kind, name, etag)
        for each in loaded:
            self._let_go(each)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _take_in(
        self,
        loaded: Loaded,
        staged: Path,
        current: Entry[Model] | None,
        files: Sequence[File],
        labels: dict[str, str],
        *,
        load: bool,
    ) -> Entry[ModelVersion]:
        """Keep what was opened; where that fails neither files nor memory stay taken."""
        target = self._place(loaded.name)
        body = description(loaded.manifest, loaded.servable, files, wanted=load)
        try:
            await asyncio.to_thread(move_into_place, staged, target)
            entry = await self._record(loaded.model, loaded.version, current, body, labels)
        except BaseException:  # a cancelled push, too, leaves neither files nor memory behind
            await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)
            await asyncio.to_thread(loaded.servable.close)
            raise
        if load:
            self._enter(loaded, entry.uid)
        else:
            await asyncio.to_thread(loaded.servable.close)
        return entry

    async def _load(self, entry: Entry[ModelVersion]) -> None:
        self._loading.add(entry.name)
        try:
            self._enter(await self._open(entry.name, self._place(entry.name)), entry.uid)
        finally:
            self._loading.discard(entry.name)

    async def _open(self, name: str, folder: Path) -> Loaded:
        """Make a version's servable from its files."""
        return await self._opener.open(name, folder, self.find)

    async def _try(self, entry: Entry[ModelVersion]) -> None:
        """Load a version that shall be in memory; whatever keeps it from that is noted on it, and all others go on."""
        failure = ""
        try:
            await self._load(entry)
        except Exception as error:  # noqa: BLE001 -- files that are gone, or no memory: of this version alone
            failure = error.message if isinstance(error, EngineError) else f"it failed to load: {type(error).__name__}"
            self._log.warning(
                "model not loaded", model=entry.name, error=failure, exc_info=not isinstance(error, EngineError)
            )
        known = entry.body.failure
        # Engines that fail for different reasons would otherwise go on writing theirs over the other's for ever.
        if failure != known and not (self._started and failure and known):
            with suppress(NotFoundError):  # another engine has just deleted it
                await self._note(entry.name, failure=failure)

    def _enter(self, loaded: Loaded, uid: str) -> None:
        """Let a version answer."""
        self._loaded[loaded.name] = replace(loaded, uid=uid)
        self._uids[loaded.name] = uid
        self._serving[loaded.model] = max(self.versions_of(loaded.model))
        servable = loaded.servable
        loaded.figures.watch(lambda: servable.waiting)

    def _let_go(self, name: str) -> None:
        """Let a version answer no more; its memory is given back beside everything else, see `_closed`."""
        loaded = self._loaded.pop(name, None)
        if loaded is None:
            return
        self._uids.pop(name, None)
        loaded.figures.forget()
        rest = self.versions_of(loaded.model)
        if rest:
            self._serving[loaded.model] = max(rest)
        else:
            self._serving.pop(loaded.model, None)
        closing = asyncio.ensure_future(asyncio.to_thread(loaded.servable.close))
        self._closing[closing] = name
        closing.add_done_callback(self._closing.pop)

    async def _closed(self, names: Container[str]) -> None:
        """Wait until the memory of versions that were let go is given back; nobody else has to wait meanwhile."""
        await to_the_end(asyncio.gather(*(closing for closing, name in self._closing.items() if name in names)))

    def _refuse_backbone(self, loaded: Loaded, *, whole: bool) -> None:
        """Refuse to take away what others stand on: this version of a model, or the `whole` model."""
        tenant, model_id = tenant_of(loaded.model), loaded.model.rsplit("/", 1)[1]
        for other in self._loaded.values():
            if tenant_of(other.model) != tenant or other.model == loaded.model:
                continue
            if any(
                base.model == model_id and (whole or base.version == str(loaded.version))
                for base in other.manifest.stands_on
            ):
                raise BackboneInUseError(
                    f"{loaded.model} is what {other.model} stands on; unload that first", model=other.model
                )

    @staticmethod
    def _refuse_system(name: str) -> None:
        if tenant_of(name) == SYSTEM_TENANT:
            raise ReadOnlyModelError(f"{name} ships with the platform and stays as it is", resource=name)

    def _place(self, name: str) -> Path:
        """Where a version's files are."""
        model, number = name.rsplit("/versions/", 1)
        if tenant_of(name) == SYSTEM_TENANT and self._system is not None:
            return self._system / model.rsplit("/", 1)[1] / number
        return self.folder / tenant_of(name) / model.rsplit("/", 1)[1] / number

    async def _take_in_system_models(self) -> None:
        """Make entries for the models in the platform's own folder."""
        if self._system is None or not self._system.is_dir():
            return
        for manifest_file in sorted(self._system.glob(f"*/*/{MANIFEST_FILE}")):
            folder = manifest_file.parent
            if not folder.name.isdigit():
                continue
            model, number = f"{_SYSTEM}/models/{folder.parent.name}", int(folder.name)
            files = await asyncio.to_thread(files_in, folder)
            known = await self._known(ModelVersion, version_name(model, number))
            if known is not None and known.body.files == tuple(files):
                continue
            try:
                loaded = await self._open(version_name(model, number), folder)
            except Exception as error:  # noqa: BLE001 -- as in `_try`
                self._log.warning("model not taken in", model=model, error=str(error) or type(error).__name__)
                continue
            body = description(loaded.manifest, loaded.servable, files)
            if known is not None:
                await self._catalogue.delete(ModelVersion, known.name, "")
            entry = await self._record(model, number, await self._known(Model, model), body, {})
            self._enter(loaded, entry.uid)

    async def _record(
        self, model: str, number: int, current: Entry[Model] | None, body: ModelVersion, labels: dict[str, str]
    ) -> Entry[ModelVersion]:
        """Keep what is known of a new version."""
        once = Creation("", "")
        if current is None:
            await self._catalogue.create(model, Model(number), {}, once)
        elif number > current.body.latest:
            await self._catalogue.update(Model, model, "", lambda entry: replace(entry, body=Model(number)))
        return await self._catalogue.create(version_name(model, number), body, labels, once)

    async def _note(self, name: str, **changed: Any) -> Entry[ModelVersion]:  # noqa: ANN401 -- fields of the body
        """Keep whether a version shall be in memory, and what keeps it from that."""
        fields = {"failure": "", **changed}

        def change(entry: Entry[ModelVersion]) -> Entry[ModelVersion]:
            return replace(entry, body=msgspec.structs.replace(entry.body, **fields))

        return await self._catalogue.update(ModelVersion, name, "", change)

    async def _known(self, kind: type[Body], name: str) -> Entry[Body] | None:
        try:
            return await self._catalogue.get(kind, name)
        except NotFoundError:
            return None
