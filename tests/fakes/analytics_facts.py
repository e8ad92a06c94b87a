"""Facts and a feed of them, for analytics' tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from analytics.dimensions import DIMENSIONS
from analytics.errors import FeedBrokenError
from analytics.facts import Fact
from analytics.ports import Batch

__all__ = ["NOON", "FakeFeed", "a_fact"]

NOON = 1_790_000_000 // 86400 * 86400 + 12 * 3600
"""A noon, in seconds since the epoch."""


def a_fact(at: int = 0, tenant: str = "default", **given: object) -> Fact:
    """A call `at` seconds after noon; dimensions are given by their names, everything else by the fact's own."""
    named = {
        "service": "engine",
        "method": "tiation.engine.v1.ModelService/GetModel",
        "agent": "tenants/default/agents/triage",
        "principal": "tenants/default/principals/ada",
    }
    series = tuple(str(given.pop(dimension, named.get(dimension, ""))) for dimension in DIMENSIONS)
    return Fact(NOON + at, tenant, series, **{"duration_ms": 10.0, **given})


class FakeFeed:
    """Hands out facts as security would, fact number n with sequence n + 1; breaks where it is told to.

    Args:
        facts: what there is.
        piece: how many at once.
    """

    def __init__(self, facts: Sequence[Fact], piece: int = 10) -> None:
        self.facts = list(facts)
        self.piece = piece
        self.asked: list[int] = []
        self.breaks_after: list[int] = []

    async def follow(self, position: int) -> AsyncIterator[Batch]:
        """As `Feed.follow`."""
        self.asked.append(position)
        limit = self.breaks_after.pop(0) if self.breaks_after else None
        yield Batch((), (), position, len(self.facts))
        while True:
            part = self.facts[position : position + self.piece]
            if limit is not None and position + len(part) > limit:
                raise FeedBrokenError("security is gone")
            if part:
                positions = range(position + 1, position + len(part) + 1)
                position += len(part)
                yield Batch(part, positions, position, len(self.facts), 1.0)
            else:
                await asyncio.sleep(0.01)
