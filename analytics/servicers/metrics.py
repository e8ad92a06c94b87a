"""AnalyticsService."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime

from google.api import httpbody_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from tiation.analytics.v1 import metric_pb2 as pb
from tiation.analytics.v1 import metric_pb2_grpc

from analytics.buckets import Granularity, Span, span_of
from analytics.cells import Cell
from analytics.dimensions import cube_for
from analytics.errors import ShuttingDownError
from analytics.export import Exports, pieces
from analytics.filters import parse_filter
from analytics.live import LiveView, Snapshot
from analytics.metrics import DEFAULT_METRICS, METRICS, Metric, metrics_named
from analytics.query import Answer, Queries, Question, Series, order_of
from mesh.call import Context
from mesh.catalogue import NotFoundError
from mesh.errors import Code, TiationError
from mesh.pagination import Pages
from mesh.resource import tenant_of
from mesh.status import status_of

__all__ = ["AnalyticsServicer"]

_HOUR_S = 3600
_EXPORT_S = 30 * 86400
_DEFAULT_LIMIT = 100
_DEFAULT_WINDOW_S = 60
_GRANULARITIES = {pb.MINUTE: Granularity.MINUTE, pb.HOUR: Granularity.HOUR, pb.DAY: Granularity.DAY}
_NUMBERS = {granularity: number for number, granularity in _GRANULARITIES.items()}
_TYPES = {pb.CSV: ("text/csv; charset=utf-8", "csv"), pb.PARQUET: ("application/vnd.apache.parquet", "parquet")}


class AnalyticsServicer(metric_pb2_grpc.AnalyticsServiceServicer):
    """Answers for a tenant's figures.

    Args:
        queries: answer for a range.
        live: tells of the last minutes.
        exports: writes files.
        pages: makes and checks page tokens.
        now: the wall clock, in seconds.
    """

    def __init__(
        self, queries: Queries, live: LiveView, exports: Exports, pages: Pages, now: Callable[[], float] = time.time
    ) -> None:
        self._queries = queries
        self._live = live
        self._exports = exports
        self._pages = pages
        self._now = now

    async def GetMetric(self, request: pb.GetMetricRequest, _: Context) -> pb.Metric:
        """One metric."""
        parent, name = request.name.rsplit("/metrics/", 1)
        if name not in METRICS:
            raise NotFoundError(request.name)
        return _metric(parent, METRICS[name])

    async def ListMetrics(self, request: pb.ListMetricsRequest, _: Context) -> pb.ListMetricsResponse:
        """What is measured."""
        bound_to = ("Metric", request.parent)
        page = self._pages.start(bound_to, request.page_size, request.page_token)
        names = list(METRICS)
        start = names.index(page.cursor) + 1 if page.cursor is not None else 0
        found = names[start : start + page.limit + 1]
        kept, token = self._pages.cut(bound_to, page, found, found)
        return pb.ListMetricsResponse(
            metrics=[_metric(request.parent, METRICS[name]) for name in kept], next_page_token=token
        )

    async def QueryMetrics(self, request: pb.QueryMetricsRequest, _: Context) -> pb.QueryMetricsResponse:
        """What a range came to."""
        span = self._span(request, _HOUR_S, _GRANULARITIES.get(request.granularity))
        question = _question(request, span)
        answer = await self._queries.answer(question)
        return pb.QueryMetricsResponse(
            series=_series(answer, question),
            totals=_values(answer.total, question.metrics),
            granularity=_NUMBERS[span.granularity],
            start_time=_moment(span.start_s),
            end_time=_moment(span.end_s),
            omitted_series=answer.omitted,
        )

    async def StreamMetrics(
        self, request: pb.StreamMetricsRequest, _: Context
    ) -> AsyncIterator[pb.StreamMetricsResponse]:
        """What the last minutes come to, until the service stops."""
        question = _question(request, Span(Granularity.MINUTE, 0, 60))
        window_s = request.window.seconds if request.HasField("window") else _DEFAULT_WINDOW_S
        seen = 0
        try:
            async for snapshot in self._live.watch(question, max(1, window_s), request.after_sequence):
                seen = snapshot.sequence
                yield _snapshot(snapshot, question)
        except TiationError as error:
            if not seen:
                raise
            yield pb.StreamMetricsResponse(sequence=seen, error=status_of(error, ShuttingDownError.domain))
            return
        stops = ShuttingDownError(f"analytics stops; go on with after_sequence={seen}", retry_after_s=1.0)
        yield pb.StreamMetricsResponse(sequence=seen, error=status_of(stops, stops.domain))

    async def ExportUsage(
        self, request: pb.ExportUsageRequest, context: Context
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """A range as a file."""
        span = self._span(request, _EXPORT_S, _GRANULARITIES.get(request.granularity, Granularity.DAY))
        content_type, ending = _TYPES[request.format or pb.CSV]
        tenant = tenant_of(request.parent)
        wanted = parse_filter(request.filter)
        async with self._exports.written(tenant, span, wanted, as_parquet=ending == "parquet") as export:
            name = f"usage-{tenant}-{_day(span.start_s)}-{_day(span.end_s - 1)}.{ending}"
            await context.send_initial_metadata(
                (("content-disposition", f'attachment; filename="{name}"'), ("x-tiation-rows", str(export.rows)))
            )
            async for piece in pieces(export.path):
                yield httpbody_pb2.HttpBody(content_type=content_type, data=piece)

    def _span(
        self,
        request: pb.QueryMetricsRequest | pb.ExportUsageRequest,
        length_s: int,
        granularity: Granularity | None,
    ) -> Span:
        """The range that a request names; what it leaves out reaches so far back from now."""
        end_s = _second(request.end_time, up=True) if request.HasField("end_time") else int(self._now()) + 1
        start_s = _second(request.start_time) if request.HasField("start_time") else end_s - length_s
        return span_of(start_s, end_s, granularity)


def _question(request: pb.QueryMetricsRequest | pb.StreamMetricsRequest, span: Span) -> Question:
    order, descending = order_of(request.order_by)
    cube_for(request.group_by)
    return Question(
        tenant=tenant_of(request.parent),
        span=span,
        metrics=metrics_named(request.metrics or DEFAULT_METRICS),
        group_by=tuple(request.group_by),
        filter=parse_filter(request.filter),
        order=order,
        descending=descending,
        limit=request.limit or _DEFAULT_LIMIT,
    )


def _series(answer: Answer, question: Question) -> list[pb.Series]:
    return [_one(series, question) for series in answer.series]


def _one(series: Series, question: Question) -> pb.Series:
    points = [
        pb.Point(start_time=_moment(bucket), values=_values(cell, question.metrics)) for bucket, cell in series.points
    ]
    dimensions = dict(zip(question.group_by, series.values, strict=True))
    return pb.Series(dimensions=dimensions, points=points, totals=_values(series.total, question.metrics))


def _values(cell: Cell, metrics: Sequence[Metric]) -> pb.Values:
    values = pb.Values()
    for metric in metrics:
        if metric.name == "codes":
            values.codes.update({Code(code).name if code else "OK": number for code, number in cell.codes.items()})
        elif metric.name == "run-states":
            values.run_states.update(cell.run_states)
        elif (value := metric.value(cell)) is not None:
            values.values[metric.name] = value
    return values


def _snapshot(snapshot: Snapshot, question: Question) -> pb.StreamMetricsResponse:
    return pb.StreamMetricsResponse(
        sequence=snapshot.sequence,
        start_time=_moment(snapshot.start_s),
        end_time=_moment(snapshot.end_s),
        series=_series(snapshot.answer, question),
        totals=_values(snapshot.answer.total, question.metrics),
        omitted_series=snapshot.answer.omitted,
        live_runs=[pb.LiveRuns(agent=agent, states=states) for agent, states in sorted(snapshot.runs.items())],
    )


def _metric(parent: str, metric: Metric) -> pb.Metric:
    return pb.Metric(
        name=f"{parent}/metrics/{metric.name}",
        display_name=metric.title,
        unit=metric.unit,
        description=metric.description,
        estimated=metric.estimated,
    )


def _moment(second: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(round(second * 1_000_000))
    return stamp


def _second(stamp: Timestamp, *, up: bool = False) -> int:
    """The second that a moment falls into, or the next one."""
    return stamp.seconds + (1 if up and stamp.nanos else 0)


def _day(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y%m%d")
