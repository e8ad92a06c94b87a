"""`model.yaml`: what a model's files are and how a request runs through them; a module for each family of kinds.

Running it lives in `engine.servables`; where the files lie lives in `engine.repository.repository`.
"""

from __future__ import annotations

from engine.manifest.ensembles import EnsembleManifest
from engine.manifest.fields import Base, Common
from engine.manifest.generation import DefaultSampling, GenerationManifest
from engine.manifest.images import ImageClassificationManifest, ObjectDetectionManifest, PixelManifest
from engine.manifest.parse import MANIFEST_FILE, Manifest, parse_manifest
from engine.manifest.scheduling import GraphManifest, Scheduling
from engine.manifest.tables import Column, TabularManifest
from engine.manifest.tensors import OnnxManifest
from engine.manifest.texts import (
    Candidate,
    ClassificationManifest,
    EmbeddingManifest,
    EntailmentManifest,
    Example,
    TextGraphManifest,
    TokenClassificationManifest,
    TokenGraphManifest,
    ZeroShotManifest,
)

__all__ = [
    "MANIFEST_FILE",
    "Base",
    "Candidate",
    "ClassificationManifest",
    "Column",
    "Common",
    "DefaultSampling",
    "EmbeddingManifest",
    "EnsembleManifest",
    "EntailmentManifest",
    "Example",
    "GenerationManifest",
    "GraphManifest",
    "ImageClassificationManifest",
    "Manifest",
    "ObjectDetectionManifest",
    "OnnxManifest",
    "PixelManifest",
    "Scheduling",
    "TabularManifest",
    "TextGraphManifest",
    "TokenClassificationManifest",
    "TokenGraphManifest",
    "ZeroShotManifest",
    "parse_manifest",
]
