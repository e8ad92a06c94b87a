"""Analytics' composition root."""

from __future__ import annotations

import gc

from tiation.analytics.v1 import metric_pb2_grpc

from analytics.adapters.parquet import DuckdbParquet
from analytics.adapters.records import RecordFeed
from analytics.adapters.runs import OrchestratorRuns
from analytics.buckets import Granularity
from analytics.export import Exports
from analytics.facts import Price, Prices
from analytics.figures import Figures
from analytics.ingest import Ingest
from analytics.keeper import Keeper
from analytics.live import LiveView
from analytics.query import Queries
from analytics.retention import Retention
from analytics.rollups import Limits, Rollups
from analytics.servicers.metrics import AnalyticsServicer
from analytics.store import RollupStore
from mesh.service import Mesh, Service

__all__ = ["GC_THRESHOLDS", "build"]

GC_THRESHOLDS = (50_000, 20, 50)
"""A batch makes tens of thousands of short-lived objects and no cycles: looking for cycles as often as Python does by
default takes a third of the time that counting takes. Other services keep the default: a call that is refused leaves a
cycle (its error's traceback) with the whole request in it."""


async def build(mesh: Mesh) -> Service:
    """Wire the service."""
    settings = mesh.settings.analytics
    rows = RollupStore()
    rollups = Rollups(rows, Limits(settings.max_series))
    prices = Prices(
        {
            name: Price(price.tokens_in_1k, price.tokens_out_1k, price.rows_1k, price.calls_1k)
            for name, price in settings.prices.items()
        }
    )
    queries = Queries(mesh.database, rows)
    live = LiveView(queries, OrchestratorRuns(mesh.channels))
    kept_d = {
        Granularity.MINUTE: settings.minutes_kept_d,
        Granularity.HOUR: settings.hours_kept_d,
        Granularity.DAY: settings.days_kept_d,
    }
    figures = Figures(mesh.registry)
    keeper = Keeper(mesh.database, rollups, prices, figures)
    ingest = Ingest(RecordFeed(mesh.channels), mesh.database, rows, keeper, figures, live.counted)
    retention = Retention(mesh.database, rows, rollups, kept_d)
    exports = Exports(mesh.database, rows, DuckdbParquet(), mesh.state / "exports")

    async def start() -> None:
        gc.set_threshold(*GC_THRESHOLDS)

    async def drain() -> None:
        live.close()

    return Service(
        servicers=(
            (
                metric_pb2_grpc.add_AnalyticsServiceServicer_to_server,
                AnalyticsServicer(queries, live, exports, mesh.pages),
            ),
        ),
        start=start,
        background=(ingest.run, retention.run),
        drain=drain,
    )
