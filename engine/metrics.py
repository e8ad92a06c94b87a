"""The engine's figures, named exactly as Triton names its own, and the spans of its batches."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge

from engine.scheduler.observer import Queue, Ran
from mesh.tracing import Span, current_trace

__all__ = ["EngineMetrics", "ModelFigures"]

_LABELS = ("model", "version")


class EngineMetrics:
    """Counts inferences.

    Args:
        registry: where figures are collected.
        spans: sends the spans of batches; None where there is no collector.
    """

    def __init__(self, registry: CollectorRegistry, spans: Callable[[Span], None] | None = None) -> None:
        self.spans = spans

        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, _LABELS, registry=registry)

        self.success = counter("nv_inference_request_success", "Requests answered.")
        self.failure = counter("nv_inference_request_failure", "Requests that failed.")
        self.count = counter("nv_inference_count", "Inferences performed: rows, not runs.")
        self.runs = counter("nv_inference_exec_count", "Runs of the model: batches.")
        self.request_us = counter("nv_inference_request_duration_us", "Time from request to answer, microseconds.")
        self.queue_us = counter(
            "nv_inference_queue_duration_us", "Time that the oldest of a batch waited, microseconds."
        )
        self.infer_us = counter("nv_inference_compute_infer_duration_us", "Time in the model, microseconds.")
        self.pending = Gauge("nv_inference_pending_request_count", "Requests that wait.", _LABELS, registry=registry)

    def of(self, model: str, version: int) -> ModelFigures:
        """The figures of one version."""
        return ModelFigures(self, model, str(version))


class ModelFigures:
    """The figures of one version of a model.

    Args:
        metrics: all of them.
        model: its name.
        version: its number.
    """

    def __init__(self, metrics: EngineMetrics, model: str, version: str) -> None:
        labels = (model, version)
        self._labels, self._spans = labels, metrics.spans
        self._success, self._failure = metrics.success.labels(*labels), metrics.failure.labels(*labels)
        self._count, self._runs = metrics.count.labels(*labels), metrics.runs.labels(*labels)
        self._request_us, self._queue_us = metrics.request_us.labels(*labels), metrics.queue_us.labels(*labels)
        self._infer_us = metrics.infer_us.labels(*labels)
        self._pending = metrics.pending.labels(*labels)

    def watch(self, waiting: Callable[[], float]) -> None:
        """Show how many requests wait, from now on."""
        self._pending.set_function(waiting)

    def forget(self) -> None:
        """Show that none wait, and hold nothing of the model any more."""
        self._pending.set_function(lambda: 0)

    def queue(self, queue: Queue) -> None:
        """Requests wait there; how many is watched elsewhere."""

    def batch(self, ran: Ran, waited_s: float) -> None:
        """One run."""
        self._count.inc(ran.rows)
        self._runs.inc()
        self._queue_us.inc(waited_s * 1e6)
        self._infer_us.inc(ran.infer_s * 1e6)

    def answered(self, ran: Ran, waited_s: float) -> None:
        """A request was in a run: its trace, if it is sampled, shows the run and what else was in it."""
        trace = current_trace.get()
        if trace is None or not trace.sampled or self._spans is None:
            return
        model, version = self._labels
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
                    "tiation.model": model,
                    "tiation.model.version": version,
                    "tiation.batch.requests": ran.requests,
                    "tiation.batch.rows": ran.rows,
                    "tiation.batch.waited_us": round(waited_s * 1e6),
                },
            )
        )

    @contextmanager
    def request(self) -> Iterator[None]:
        """One request, from here to the end of the block; it failed if an exception ends it."""
        began = time.perf_counter()
        outcome = self._failure
        try:
            yield
            outcome = self._success
        finally:
            outcome.inc()
            self._request_us.inc((time.perf_counter() - began) * 1e6)
