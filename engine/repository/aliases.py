"""Aliases: names for versions, `production`, with weights where there are several."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

__all__ = ["drawn", "share_of"]


def drawn(weights: Mapping[int, int], share: float) -> int:
    """The version for a request.

    Args:
        weights: of the versions, each at least 1.
        share: where between 0 and 1 the request lies.
    """
    at = share * sum(weights.values())
    ordered = sorted(weights)
    for version in ordered:
        at -= weights[version]
        if at < 0:
            return version
    return ordered[-1]


def share_of(model: str, key: str) -> float:
    """Where between 0 and 1 all requests of a key lie; the aliases of a model agree on it."""
    digest = hashlib.sha256(f"{model}\x1f{key}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / float(1 << 56)
