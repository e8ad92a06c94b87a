"""What a servable with a graph is made of. Which one a manifest asks for is `engine.repository.opening`'s."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from engine.manifest import GraphManifest
from engine.runtime.sessions import SessionSettings
from engine.scheduler.observer import BatchObserver
from engine.scheduler.policy import BatchPolicy

__all__ = ["ModelContext"]

OfGraph_co = TypeVar("OfGraph_co", bound=GraphManifest, covariant=True)


@dataclass(frozen=True, slots=True)
class ModelContext(Generic[OfGraph_co]):
    """A version's files, and how they are to serve.

    Attributes:
        folder: where its files are.
        manifest: what its owner says of it.
        settings: how its sessions are opened.
        limits: how much it takes on.
        observer: hears how batches went.
    """

    folder: Path
    manifest: OfGraph_co
    settings: SessionSettings
    limits: BatchPolicy
    observer: BatchObserver
