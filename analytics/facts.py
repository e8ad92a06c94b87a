"""Facts: what analytics takes from one record, and what that cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

__all__ = ["Fact", "Price", "Prices", "Usage"]

NANOS = 1_000_000_000


class Usage(NamedTuple):
    """What a call used up."""

    tokens_in: int = 0
    tokens_out: int = 0
    rows: int = 0


class Fact(msgspec.Struct, frozen=True, gc=False):
    """One call, or the end of one run.

    Attributes:
        start_s: when it began, in seconds since the epoch.
        tenant: whose it is.
        series: the value of each dimension, in the order of `DIMENSIONS`.
        code: how it ended, a `google.rpc.Code`.
        duration_ms: how long it took.
        streamed: true for a stream, whose length says nothing about how fast it was served.
        executed: true for the use of a model or a connection, false for looking at it or changing it.
        run_state: the state that a run ended in; empty for a call.
        steps: of a run.
    """

    start_s: int
    tenant: str
    series: tuple[str, ...]
    code: int = 0
    duration_ms: float = 0.0
    streamed: bool = False
    request_bytes: int = 0
    response_bytes: int = 0
    usage: Usage = Usage()
    executed: bool = False
    run_state: str = ""
    steps: int = 0


class Price(NamedTuple):
    """What a thousand of each costs, in whatever currency the operator counts in."""

    tokens_in_1k: float = 0.0
    tokens_out_1k: float = 0.0
    rows_1k: float = 0.0
    calls_1k: float = 0.0


class Prices:
    """The price table.

    Args:
        table: prices of models and connections, by whole names or their last parts.
    """

    _MODEL, _CONNECTION = 3, 5
    """Where these two stand in a series."""

    def __init__(self, table: Mapping[str, Price]) -> None:
        self._table = table

    def cost_nanos(self, fact: Fact) -> int:
        """What a call cost, in billionths."""
        if not self._table:
            return 0
        name = fact.series[self._MODEL] or fact.series[self._CONNECTION]
        price = self._table.get(name) or self._table.get(name.rsplit("/", 1)[-1])
        if price is None:
            return 0
        used = fact.usage
        thousandths = (
            used.tokens_in * price.tokens_in_1k
            + used.tokens_out * price.tokens_out_1k
            + used.rows * price.rows_1k
            + (price.calls_1k if fact.executed else 0.0)
        )
        return round(thousandths * (NANOS // 1000))
