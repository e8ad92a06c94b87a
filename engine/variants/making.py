"""Has variants made, in processes of their own, and takes them in like pushed versions."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.errors import (
    ElementError,
    ReadOnlyModelError,
    TensorError,
    VariantCrashedError,
    VariantImpossibleError,
    VariantsBusyError,
    VariantTimeoutError,
)
from engine.repository.folders import files_in
from engine.repository.models import ModelVersion, Provenance
from engine.repository.records import model_of
from engine.repository.repository import Repository
from engine.repository.upload import check_room
from engine.runtime.apart import asked_apart
from engine.runtime.sessions import SessionSettings
from engine.variants.reports import Outcome, Precision, Task, VariantReport
from mesh.catalogue import Catalogue
from mesh.entries import Entry
from mesh.identity import SYSTEM_TENANT
from mesh.resource import join, tenant_of

__all__ = ["Variants", "Wish"]

_LIMIT_S = 480.0
"""The call's own limit is ten minutes; the rest is for taking it in."""
_MOST_UNDER_WAY = 8
_MEMORY_BYTES = 4 << 30
_TIMES = 12
"""So many times its files' bytes a variant may take beside that: the graph is there several times while it is made."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A variant that is asked for.

    Attributes:
        parent: the tenant, `tenants/default`.
        source: the version's full name.
        precision: how it shall compute.
        model_id: of the model that it becomes a version of; empty for the usual one.
        samples: what both are asked.
        load: whether it is loaded.
        request_id: the same one again makes no other.
    """

    parent: str
    source: str
    precision: Precision
    model_id: str = ""
    samples: Sequence[str] = ()
    load: bool = False
    request_id: str = ""

    @property
    def target_id(self) -> str:
        """The model that it becomes a version of."""
        own = self.source.split("/")[3]
        if self.model_id or tenant_of(self.source) == tenant_of(self.parent):
            return self.model_id or own
        return f"{own[: 62 - len(self.precision)]}-{self.precision}"


class Variants:
    """Makes variants, one after the other.

    Args:
        repository: keeps versions.
        catalogue: knows what is kept.
        session: how they will be opened.
        limit_s: how long one may take.
        memory_bytes: what one may take, beside what its files ask for.
    """

    def __init__(
        self,
        repository: Repository,
        catalogue: Catalogue,
        session: SessionSettings,
        *,
        limit_s: float = _LIMIT_S,
        memory_bytes: int = _MEMORY_BYTES,
    ) -> None:
        self._repository = repository
        self._catalogue = catalogue
        self._session = session
        self._limit_s = limit_s
        self._memory_bytes = memory_bytes
        self._turn = asyncio.Lock()
        self._under_way = 0

    async def make(self, wish: Wish, provenance: Provenance) -> Entry[ModelVersion]:
        """A new version that is a variant of another one.

        Raises:
            VariantImpossibleError: there is none of it.
            VariantsBusyError: too many wait.
            VariantTimeoutError: it takes too long.
            VariantCrashedError: what makes it was ended.
            TensorError: a sample does not fit.
            EngineError: what was made cannot be opened or kept.
        """
        if tenant_of(wish.parent) == SYSTEM_TENANT:
            raise ReadOnlyModelError("models of tenants/system ship with the platform", resource=wish.parent)
        if tenant_of(wish.source) not in (tenant_of(wish.parent), SYSTEM_TENANT):
            raise VariantImpossibleError(f"{wish.source}: is another tenant's", resource=wish.source)
        model = join(wish.parent, "models", wish.target_id)
        if (earlier := await self._repository.pushed.by(model, wish.request_id)) is not None:
            return earlier
        if self._under_way >= _MOST_UNDER_WAY:
            raise VariantsBusyError(f"{self._under_way} variants are being made or wait for that; try again in minutes")
        self._under_way += 1
        try:
            return await self._kept(wish, model, provenance)
        finally:
            self._under_way -= 1

    async def _kept(self, wish: Wish, model: str, provenance: Provenance) -> Entry[ModelVersion]:
        """Made aside, and taken in."""
        entry = await self._catalogue.get(ModelVersion, wish.source)
        folder = await asyncio.to_thread(self._repository.fetch, entry.name, entry.body.files)
        size = sum(file.size_bytes for file in entry.body.files)
        await asyncio.to_thread(check_room, self._repository.folder, size)
        target = Path(tempfile.mkdtemp(dir=self._repository.folder, prefix=self._repository.sharing.uploads))
        try:
            async with self._turn:
                report = await self._made(wish, folder, target, size)
            files = await asyncio.to_thread(files_in, target)
            return await self._repository.pushed.keep(
                model, 0, target, files, {}, load=wish.load, request_id=wish.request_id, provenance=provenance,
                variant=report,
            )  # fmt: skip
        finally:
            await asyncio.to_thread(shutil.rmtree, target, ignore_errors=True)

    async def _made(self, wish: Wish, folder: Path, target: Path, size: int) -> VariantReport:
        on_cpu = self._session.device == "cpu"
        task = Task(
            wish.source, str(folder), str(target), wish.target_id, wish.precision, tuple(wish.samples),
            self._session.device, self._session.threads, self._memory_bytes + _TIMES * size if on_cpu else 0,
        )  # fmt: skip
        try:
            code, said = await asked_apart("engine.variants.variant_main", task, limit_s=self._limit_s)
        except TimeoutError:
            raise VariantTimeoutError(
                f"{model_of(wish.source)}: its variant was not ready after {self._limit_s:g} s; give fewer samples, or "
                "convert it elsewhere and push it"
            ) from None
        return _report(wish, code, said)


def _report(wish: Wish, code: int | None, said: bytes) -> VariantReport:
    """What the process said.

    Raises:
        VariantCrashedError: nothing.
        VariantImpossibleError, ElementError, TensorError: that there is none.
    """
    if code or not said.strip():
        raise VariantCrashedError(
            f"{model_of(wish.source)}: what makes its variant was ended ({code}); most likely it takes too much memory"
        )
    outcome = msgspec.json.decode(said.rsplit(b"\n", 1)[-1], type=Outcome)
    if outcome.report is not None:
        return outcome.report
    if outcome.sample >= 0:
        raise ElementError("samples", outcome.sample, outcome.refused)
    if outcome.possible:
        raise TensorError("", f"samples: {outcome.refused}")
    raise VariantImpossibleError(outcome.refused, resource=wish.source)
