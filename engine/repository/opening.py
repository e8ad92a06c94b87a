"""How a version's files become a model in memory, by the kind that its manifest says.

Which versions are opened, and when, is `engine.repository.repository`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from engine.errors import BackboneError, ModelFileError, ModelNotFoundError, VersionNotFoundError
from engine.manifest import (
    MANIFEST_FILE,
    ClassificationManifest,
    EmbeddingManifest,
    ImageClassificationManifest,
    Manifest,
    OnnxManifest,
    parse_manifest,
)
from engine.metrics import EngineMetrics, ModelFigures
from engine.repository.completion import constructed
from engine.runtime.sessions import SessionSettings
from engine.servables import BatchLimits, Classifier, Embedder, ImageClassifier, OnnxModel, Servable
from mesh.resource import tenant_of
from mesh.sandbox import ImagePool

__all__ = ["Find", "Loaded", "Opener"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version in memory."""

    name: str
    model: str
    version: int
    servable: Servable
    manifest: Manifest
    figures: ModelFigures
    uid: str = ""
    """Of its entry; a version that was deleted and pushed again has another one. Empty before it answers."""


Find: TypeAlias = Callable[[str, str, str], Loaded]
"""Finds what is in memory for a tenant: a model by its id, and its version."""


class Opener:
    """Makes models from files.

    Args:
        metrics: counts.
        session: how sessions are opened.
        limits: how much a model takes on.
        images: decodes images.
    """

    def __init__(
        self, metrics: EngineMetrics, session: SessionSettings, limits: BatchLimits, images: ImagePool
    ) -> None:
        self._metrics = metrics
        self._session = session
        self._limits = limits
        self._images = images

    async def open(self, name: str, folder: Path, find: Find) -> Loaded:
        """Make a version's servable; when cancelled meanwhile, nothing of it stays in memory.

        Args:
            name: of the version.
            folder: where its files are.
            find: finds what it stands on.

        Raises:
            EngineError: they make no model.
        """
        model, number = name.rsplit("/versions/", 1)
        try:
            data = await asyncio.to_thread((folder / MANIFEST_FILE).read_bytes)
        except FileNotFoundError:
            raise ModelFileError(
                f"{MANIFEST_FILE}: is missing; restore the version's files, or push it as another version",
                file=MANIFEST_FILE,
            ) from None
        manifest = parse_manifest(data, model=model.rsplit("/", 1)[1])
        figures = self._metrics.of(model, int(number))
        servable = await self._servable(manifest, folder, figures, partial(find, tenant_of(name)))
        return Loaded(name, model, int(number), servable, manifest, figures)

    async def close(self) -> None:
        """End what decodes images."""
        await self._images.close()

    async def _servable(
        self, manifest: Manifest, folder: Path, figures: ModelFigures, find: Callable[[str, str], Loaded]
    ) -> Servable:
        session, limits, images = self._session, self._limits, self._images
        match manifest:
            case OnnxManifest():
                return await constructed(lambda: OnnxModel(folder, manifest, session, limits, figures))
            case EmbeddingManifest():
                return await constructed(lambda: Embedder(folder, manifest, session, limits, figures))
            case ImageClassificationManifest():
                return await constructed(lambda: ImageClassifier(folder, manifest, session, limits, figures, images))
            case ClassificationManifest():

                def backbone() -> Servable:
                    try:
                        return find(manifest.backbone, "").servable
                    except (ModelNotFoundError, VersionNotFoundError):
                        raise BackboneError(
                            f"backbone: `{manifest.backbone}` is not loaded; load it first", backbone=manifest.backbone
                        ) from None

                return await Classifier.build(manifest, backbone)
