"""The engine's figures for Prometheus, named exactly as Triton names its own, and the spans of its batches.

What is counted, and when, is `engine.figures`'; here it is only shown. Triton's counters lack the ending `_total`
without which Prometheus' own formats know no counter: they are shown as figures without a type, under their exact
names.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import get_args

import psutil
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, UnknownMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from engine.durations import Duration
from engine.figures import Failure, ModelFigures, Statistics
from engine.scheduler.observer import Ran
from mesh.tracing import Span, current_trace

__all__ = ["EngineMetrics", "ModelFigures"]

_LABELS = ("model", "version")
_MOST_FORGOTTEN = 4096
"""Figures of so many versions that are no longer in memory are kept."""
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""The upper ends of the ranges in which batches are counted by their rows."""

_COUNTERS: Mapping[str, tuple[str, Callable[[Statistics], float]]] = {
    "nv_inference_request_success": ("Requests answered.", lambda s: s.success.count),
    "nv_inference_count": ("Inferences performed: rows, not runs.", lambda s: s.inferences),
    "nv_inference_exec_count": ("Runs of the model: batches.", lambda s: s.executions),
    "nv_inference_request_duration_us": (
        "Time from request to answer, microseconds, of all requests.",
        lambda s: _us(s.success),
    ),
    "nv_inference_queue_duration_us": ("Time that requests waited, microseconds.", lambda s: _us(s.queue)),
    "nv_inference_compute_input_duration_us": (
        "Time in which requests' inputs were put together, microseconds.",
        lambda s: _us(s.compute_input),
    ),
    "nv_inference_compute_infer_duration_us": (
        "Time that requests were in the model, microseconds.",
        lambda s: _us(s.compute_infer),
    ),
    "nv_inference_compute_output_duration_us": (
        "Time in which requests' outputs were taken apart, microseconds.",
        lambda s: _us(s.compute_output),
    ),
    "nv_cache_num_hits_per_model": ("Answers that were found in the cache.", lambda s: s.cache_hit.count),
    "nv_cache_num_misses_per_model": ("Answers that were not.", lambda s: s.cache_miss.count),
    "nv_cache_hit_duration_per_model": (
        "Time in which answers were found in the cache, microseconds.",
        lambda s: _us(s.cache_hit),
    ),
    "nv_cache_miss_duration_per_model": (
        "Time in which answers were looked for in vain and kept, microseconds.",
        lambda s: _us(s.cache_miss),
    ),
}


class EngineMetrics(Collector):
    """Shows the figures of all models.

    Args:
        registry: where figures are collected.
        spans: sends the spans of batches; None where there is no collector.
    """

    def __init__(self, registry: CollectorRegistry, spans: Callable[[Span], None] | None = None) -> None:
        self._spans = spans
        self._figures: dict[tuple[str, int], ModelFigures] = {}
        psutil.cpu_percent()  # from here to the first look
        registry.register(self)

    def of(self, model: str, version: int) -> ModelFigures:
        """The figures of one version, which go on where they were when it comes back into memory."""
        figures = self._figures.get((model, version))
        if figures is None:
            traced = self._trace if self._spans is not None else None
            figures = self._figures[model, version] = ModelFigures(model, str(version), traced)
            self._drop_forgotten()
        return figures

    def collect(self) -> Iterator[Metric]:
        """Everything, as it is now; called for each look at the figures, on a thread of its own."""
        shown = [(figures, figures.statistics()) for figures in list(self._figures.values()) if figures.shown]
        for name, (text, value) in _COUNTERS.items():
            family = UnknownMetricFamily(name, text, labels=_LABELS)
            for figures, statistics in shown:
                family.add_metric((figures.model, figures.version), value(statistics))
            yield family
        yield from _by_reason(shown)
        yield from _queues(figures for figures, _ in shown)
        yield _batch_rows(shown)
        yield from _machine()

    def _drop_forgotten(self) -> None:
        """Of those that are not in memory, let the oldest go where they are too many."""
        idle = [key for key, figures in self._figures.items() if not figures.loaded]
        for key in idle[: max(0, len(idle) - _MOST_FORGOTTEN)]:
            del self._figures[key]

    def _trace(self, figures: ModelFigures, ran: Ran, waited_s: float) -> None:
        """A request was in a run: its trace, if it is sampled, shows the run and what else was in it."""
        trace = current_trace.get()
        if trace is None or not trace.sampled or self._spans is None:
            return
        offset_ns = time.time_ns() - time.perf_counter_ns()
        self._spans(
            Span(
                "batch",
                "internal",
                trace.below(secrets.token_hex(8)),
                trace.span_id,
                offset_ns + round(ran.began * 1e9),
                offset_ns + round(ran.ended * 1e9),
                {
                    "tiation.model": figures.model,
                    "tiation.model.version": figures.version,
                    "tiation.batch.requests": ran.requests,
                    "tiation.batch.rows": ran.rows,
                    "tiation.batch.reason": ran.reason,
                    "tiation.batch.waited_us": round(waited_s * 1e6),
                },
            )
        )


def _us(duration: Duration) -> float:
    return duration.ns / 1e3


def _by_reason(shown: Iterable[tuple[ModelFigures, Statistics]]) -> Iterator[Metric]:
    """What is counted by why it was."""
    failed = UnknownMetricFamily(
        "nv_inference_request_failure", "Requests that failed, by reason.", labels=(*_LABELS, "reason")
    )
    went = CounterMetricFamily(
        "tiation_inference_dispatches",
        "Runs of the model, by why they went when they did.",
        labels=(*_LABELS, "reason"),
    )
    for figures, statistics in shown:
        for why in get_args(Failure):
            failed.add_metric((figures.model, figures.version, why), statistics.failures.get(why, 0))
        for reason, count in statistics.dispatches.items():
            went.add_metric((figures.model, figures.version, reason), count)
    yield failed
    yield went


def _queues(shown: Iterable[ModelFigures]) -> Iterator[Metric]:
    """What waits now."""
    pending = GaugeMetricFamily("nv_inference_pending_request_count", "Requests that wait.", labels=_LABELS)
    oldest = GaugeMetricFamily(
        "tiation_inference_oldest_wait_seconds",
        "For how long the oldest request that waits has waited.",
        labels=_LABELS,
    )
    for figures in shown:
        pending.add_metric((figures.model, figures.version), figures.waiting)
        oldest.add_metric((figures.model, figures.version), figures.oldest_wait_s)
    yield pending
    yield oldest


def _batch_rows(shown: Iterable[tuple[ModelFigures, Statistics]]) -> Metric:
    """How many rows the runs had."""
    family = HistogramMetricFamily("tiation_inference_batch_rows", "Rows in a run of the model.", labels=_LABELS)
    for figures, statistics in shown:
        counts = [0] * (len(_ROWS) + 1)
        for batch in statistics.batches:
            counts[next((at for at, end in enumerate(_ROWS) if batch.rows <= end), len(_ROWS))] += (
                batch.compute_infer.count
            )
        ends = [*(str(float(end)) for end in _ROWS), "+Inf"]
        buckets = list(zip(ends, map(float, accumulate(counts)), strict=True))
        family.add_metric((figures.model, figures.version), buckets, sum_value=statistics.inferences)
    return family


def _machine() -> Iterator[Metric]:
    """The machine's processors and memory."""
    memory = psutil.virtual_memory()
    yield GaugeMetricFamily(
        "nv_cpu_utilization", "Share of the processors in use since the last look, 0 to 1.", psutil.cpu_percent() / 100
    )
    yield GaugeMetricFamily("nv_cpu_memory_total_bytes", "Memory of the machine.", memory.total)
    yield GaugeMetricFamily("nv_cpu_memory_used_bytes", "Memory in use.", memory.total - memory.available)
