"""The models that ship with the platform, in a folder that nobody changes through it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from engine.manifest import MANIFEST_FILE
from engine.repository.completion import by_its_own_task
from engine.repository.folders import files_in
from engine.repository.loading import Loading
from engine.repository.memory import SYSTEM, Memory
from engine.repository.models import ModelVersion, description, version_name
from engine.repository.records import Records

__all__ = ["SystemModels"]


class SystemModels:
    """Takes in what ships with the platform.

    Args:
        folder: below it a folder a model and a version; None where nothing ships.
        records: what is kept of them.
        loading: opens them.
        memory: where they come.
    """

    def __init__(self, folder: Path | None, records: Records, loading: Loading, memory: Memory) -> None:
        self._folder = folder
        self._records = records
        self._loading = loading
        self._memory = memory
        self._log = structlog.get_logger("engine.repository")

    async def take_in(self) -> None:
        """Make entries for models that are new or have other files than before."""
        if self._folder is None or not self._folder.is_dir():
            return
        for manifest_file in sorted(self._folder.glob(f"*/*/{MANIFEST_FILE}")):
            folder = manifest_file.parent
            if folder.name.isdigit():
                model = f"{SYSTEM}/models/{folder.parent.name}"
                await by_its_own_task(self._take_in(folder, model, int(folder.name)))

    async def _take_in(self, folder: Path, model: str, number: int) -> None:
        name = version_name(model, number)
        files = await asyncio.to_thread(files_in, folder)
        known = await self._records.known(ModelVersion, name)
        if known is not None and known.body.files == tuple(files):
            return
        try:
            loaded = await self._loading.open(name, folder)
        except Exception as error:  # noqa: BLE001 -- files that are gone, or no memory: of this version alone
            self._log.warning("model not taken in", model=model, error=str(error) or type(error).__name__)
            return
        body = description(loaded.manifest, loaded.servable, files)
        if known is not None:
            await self._records.catalogue.delete(ModelVersion, known.name, "")
        entry = await self._records.add(name, body, {})
        self._memory.enter(loaded, entry.uid)
