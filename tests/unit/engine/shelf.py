"""A folder of models and a database, and engines on them, one after the other, for tests of the repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

import mesh
from engine.cache.answers import Answers, CacheObserver
from engine.generation.figures import GenerationMetrics
from engine.metrics import EngineMetrics
from engine.repository.changes import ModelChange
from engine.repository.folders import files_in
from engine.repository.models import ModelCatalogue, Provenance, VersionPolicy
from engine.repository.opening import Opener
from engine.repository.shared_repository import SharedRepository
from engine.repository.sharing import Sharing
from engine.runtime.ledger import CPU, Ledger
from engine.runtime.sessions import SessionSettings
from engine.scheduler.policy import BatchPolicy
from mesh.db import open_database
from mesh.entry_store import EntryStore
from mesh.migrate import migrate
from mesh.model_signature import digests_of, sign
from mesh.sandbox import ImagePool, SandboxPool
from tests.unit.engine.graphs import doubling, folder

MODEL = "tenants/t/models/m"
MANIFEST = "name: m\nkind: onnx\n"


class Shelf:
    """A folder and a database, and engines on them, one after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = open_database(f"sqlite:///{root / 'engine.db'}")
        migrate(self.database.engine, Path(mesh.__path__[0]) / "migrations" / "versions")
        self.catalogue = ModelCatalogue(self.database, EntryStore())
        self.opened: list[SharedRepository] = []
        self.answers: Callable[[CacheObserver], Answers] | None = None
        self.pushed = 0

    def repository(self, *, memory_bytes: int = 0, gpu_bytes: int = 0, **settings: Any) -> SharedRepository:
        self.registry = CollectorRegistry()
        self.ledger = Ledger(lambda device: memory_bytes if device == CPU else gpu_bytes)
        opener = Opener(
            EngineMetrics(self.registry),
            SessionSettings(ledger=self.ledger),
            BatchPolicy(8, 64),
            ImagePool(),
            GenerationMetrics(self.registry),
            SandboxPool(),
            self.answers,
        )
        made = SharedRepository(
            self.root / "models", None, self.catalogue, opener, Sharing(self.database, "engine"), **settings
        )
        self.opened.append(made)
        return made

    async def started(self, **settings: Any) -> SharedRepository:
        made = self.repository(**settings)
        await made.start()
        return made

    async def push(
        self,
        repository: SharedRepository,
        model: str = MODEL,
        *,
        load: bool = True,
        manifest: str = "",
        content: bytes = b"",
        key: Ed25519PrivateKey | None = None,
        provenance: Provenance | None = None,
    ):
        """A new version, of `y = x + x` unless the manifest says something else."""
        self.pushed += 1
        manifest = manifest or MANIFEST.replace("m\n", f"{model.rsplit('/', 1)[1]}\n", 1)
        staged = folder(
            self.root / "models" / f"{repository.sharing.uploads}{self.pushed}",
            manifest,
            model=content or doubling(["n", 2]),
        )
        if key is not None:
            (staged / "model.sig").write_bytes(sign(digests_of(staged), "m", key))
        files = files_in(staged)
        return await repository.pushed.keep(model, 0, staged, files, {}, load=load, provenance=provenance)

    async def keep_all(self, repository: SharedRepository, model: str = MODEL) -> None:
        """Have all versions of a model in memory."""
        await repository.lifecycle.update_model(model, "", ModelChange(policy=VersionPolicy(every=True)))

    async def close(self) -> None:
        for repository in self.opened:
            await repository.stop()
        await self.database.close()
