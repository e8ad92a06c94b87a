"""The engine's figures, named exactly as Triton names its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["EngineMetrics", "ModelFigures"]

_LABELS = ("model", "version")


class EngineMetrics:
    """Counts inferences.

    Args:
        registry: where figures are collected.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
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
        self._success, self._failure = metrics.success.labels(*labels), metrics.failure.labels(*labels)
        self._count, self._runs = metrics.count.labels(*labels), metrics.runs.labels(*labels)
        self._request_us, self._queue_us = metrics.request_us.labels(*labels), metrics.queue_us.labels(*labels)
        self._infer_us = metrics.infer_us.labels(*labels)
        self.pending = metrics.pending.labels(*labels)

    def batch(self, *, requests: int, rows: int, waited_s: float, ran_s: float) -> None:  # noqa: ARG002 -- the port's
        """One run."""
        self._count.inc(rows)
        self._runs.inc()
        self._queue_us.inc(waited_s * 1e6)
        self._infer_us.inc(ran_s * 1e6)

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
