"""What all of the engine's errors are."""

from __future__ import annotations

from mesh.errors import TiationError

__all__ = ["EngineError"]


class EngineError(TiationError):
    """The base of the engine's errors."""

    domain = "engine.tiation.dev"
