"""How a version's files become a model in memory, by the kind that its manifest says.

Which versions are opened, and when, is `engine.repository.loading`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

from engine.cache.answers import Answers, CacheObserver
from engine.errors import BackboneError, ModelFileError, ModelNotFoundError, VersionNotFoundError
from engine.generation.figures import GenerationFigures, GenerationMetrics
from engine.generation.prompts import Renderer
from engine.manifest import (
    MANIFEST_FILE,
    ClassificationManifest,
    EmbeddingManifest,
    EnsembleManifest,
    EntailmentManifest,
    GenerationManifest,
    GraphManifest,
    ImageClassificationManifest,
    Manifest,
    ObjectDetectionManifest,
    OnnxManifest,
    TabularManifest,
    TextGraphManifest,
    TokenClassificationManifest,
    ZeroShotManifest,
    parse_manifest,
)
from engine.metrics import EngineMetrics, ModelFigures
from engine.repository.completion import constructed, to_the_end
from engine.repository.dependencies import check_dependencies
from engine.repository.loaded import Find, Loaded
from engine.repository.uses import Uses
from engine.runtime.sessions import SessionSettings
from engine.runtime.tracks import Track
from engine.scheduler.policy import BatchPolicy
from engine.servables import (
    Detector,
    Embedder,
    EncoderClassifier,
    EncoderZeroShot,
    Ensemble,
    ImageClassifier,
    ModelContext,
    OnnxModel,
    PairZeroShot,
    SequenceModel,
    Servable,
    TabularModel,
    TextClassifier,
    TextGenerator,
    TokenClassifier,
)
from mesh.resource import tenant_of
from mesh.sandbox import ImagePool

__all__ = ["Opener"]

_Graphs: TypeAlias = (
    OnnxManifest
    | TabularManifest
    | EmbeddingManifest
    | ImageClassificationManifest
    | ObjectDetectionManifest
    | EntailmentManifest
    | TokenClassificationManifest
    | TextGraphManifest
)
OfGraph = TypeVar("OfGraph", bound=GraphManifest)


class Opener:
    """Makes models from files.

    Args:
        metrics: counts.
        session: how sessions are opened.
        limits: how much a model takes on.
        images: decodes images.
        generation: counts tokens.
        renderer: renders chat templates.
        answers: makes what keeps the answers of a model that asks for it; None where none are kept.
        track: what the runs of a version enter.
    """

    def __init__(
        self,
        metrics: EngineMetrics,
        session: SessionSettings,
        limits: BatchPolicy,
        images: ImagePool,
        generation: GenerationMetrics,
        renderer: Renderer,
        answers: Callable[[CacheObserver], Answers] | None = None,
        track: Callable[[str], Track | None] = lambda _: None,
    ) -> None:
        self._metrics = metrics
        self.session = session
        self._limits = limits
        self._images = images
        self._generation = generation
        self._renderer = renderer
        self._answers = answers
        self._track = track

    def manifest(self, name: str, folder: Path) -> Manifest:
        """What a version's owner says of it. Reads the disk.

        Raises:
            ManifestError: that is not to be understood.
            ModelFileError: it is missing.
        """
        try:
            data = (folder / MANIFEST_FILE).read_bytes()
        except FileNotFoundError:
            raise ModelFileError(
                f"{MANIFEST_FILE}: is missing; restore the version's files, or push it as another version",
                file=MANIFEST_FILE,
            ) from None
        return parse_manifest(data, model=name.split("/")[3])

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
        manifest = await asyncio.to_thread(self.manifest, name, folder)
        figures = self._metrics.of(model, int(number))
        check_dependencies(model, manifest.stands_on, find)
        find_own = partial(find, tenant_of(name))
        written = partial(self._generation.of, model, int(number))
        uses = Uses()
        session = replace(self.session, track=self._track(name))
        servable = await self._servable(manifest, folder, session, figures, find_own, written, uses)
        if isinstance(servable, TextGenerator):
            await _tried(servable, tenant_of(name))
        answers = self._answers(figures) if self._answers is not None and manifest.response_cache else None
        return Loaded(
            name,
            model,
            int(number),
            servable,
            manifest,
            figures,
            answers=answers,
            bases=lambda: tuple(find_own(base.model, base.version) for base in manifest.stands_on),
            uses=uses,
        )

    async def close(self) -> None:
        """End what decodes images."""
        await self._images.close()

    async def _servable(
        self,
        manifest: Manifest,
        folder: Path,
        session: SessionSettings,
        figures: ModelFigures,
        find: Callable[[str, str], Loaded],
        written: Callable[[], GenerationFigures],
        uses: Uses,
    ) -> Servable:
        match manifest:
            case EnsembleManifest() | ClassificationManifest() | ZeroShotManifest():
                return await _standing(manifest, find)
            case GenerationManifest():
                limits, renderer = self._limits, self._renderer
                return await constructed(lambda: TextGenerator(folder, manifest, session, limits, written(), renderer))
        return await constructed(lambda: self._of_graph(manifest, folder, session, figures, uses))

    def _of_graph(
        self, manifest: _Graphs, folder: Path, session: SessionSettings, figures: ModelFigures, uses: Uses
    ) -> Servable:
        """A model with a graph of its own. Blocks."""
        limits = manifest.scheduling.policy(self._limits)

        def context(manifest: OfGraph) -> ModelContext[OfGraph]:
            return ModelContext(folder, manifest, session, limits, figures)

        match manifest:
            case OnnxManifest():
                return _of_tensors(context(manifest), uses)
            case TabularManifest():
                return TabularModel(context(manifest))
            case EmbeddingManifest():
                return Embedder(context(manifest))
            case ImageClassificationManifest():
                return ImageClassifier(context(manifest), self._images)
            case ObjectDetectionManifest():
                return Detector(context(manifest), self._images)
            case EntailmentManifest():
                return PairZeroShot(context(manifest))
            case TokenClassificationManifest():
                return TokenClassifier(context(manifest))
            case TextGraphManifest():
                return TextClassifier(context(manifest))


async def _tried(generator: TextGenerator, owner: str) -> None:
    """See that a model's chat template is one; where it is not, the model's memory is given back.

    Raises:
        EngineError: it is none.
    """
    try:
        await generator.try_template(owner)
    except BaseException:  # a cancelled load, too, leaves nothing in memory
        await to_the_end(asyncio.to_thread(generator.close))
        raise


def _of_tensors(context: ModelContext[OnnxManifest], uses: Uses) -> OnnxModel | SequenceModel:
    """A plain graph, or one that remembers."""
    section = context.manifest.sequence
    return OnnxModel(context) if section is None else SequenceModel(context, section, uses)


async def _standing(
    manifest: EnsembleManifest | ClassificationManifest | ZeroShotManifest, find: Callable[[str, str], Loaded]
) -> Servable:
    """A model that stands on others."""
    match manifest:
        case EnsembleManifest():
            return Ensemble(manifest, find)
        case ClassificationManifest():
            return await EncoderClassifier.build(manifest, partial(_backbone, manifest.backbone, find))
        case ZeroShotManifest():
            return await EncoderZeroShot.build(manifest, partial(_backbone, manifest.backbone, find))


def _backbone(name: str, find: Callable[[str, str], Loaded]) -> Servable:
    """The encoder that a head stands on, as it is loaded now.

    Raises:
        BackboneError: it is not.
    """
    try:
        return find(name, "").servable
    except (ModelNotFoundError, VersionNotFoundError):
        raise BackboneError(f"backbone: `{name}` is not loaded; load it first", backbone=name) from None
