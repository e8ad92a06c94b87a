"""How many calls there are, how they end and how long they take, named after OpenTelemetry's conventions."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mesh.call import Call
from mesh.errors import Code

__all__ = ["CallMetrics"]

_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class CallMetrics:
    """Counts calls.

    Args:
        registry: where the figures are collected.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("rpc_service", "rpc_method", "rpc_grpc_status_code")
        self._duration = Histogram(
            "rpc_server_duration_seconds",
            "Time from a call's arrival to its answer.",
            labels,
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._active = Gauge("rpc_server_active_requests", "Calls being served.", registry=registry)
        self._unrecorded = Counter(
            "tiation_record_failures_total", "Calls refused because no record could be kept.", registry=registry
        )
        self._children: dict[tuple[str, int], Histogram] = {}

    def open(self, _call: Call) -> None:
        """Count a call in."""
        self._active.inc()

    def unrecorded(self) -> None:
        """Count a call whose record could not be kept."""
        self._unrecorded.inc()

    def close(self, call: Call) -> None:
        """Count a call out."""
        self._active.dec()
        key = (call.method.name, call.code)
        child = self._children.get(key)
        if child is None:
            service, _, method = call.method.name.partition("/")
            status = Code(call.code).name if call.code else "OK"
            child = self._children[key] = self._duration.labels(service, method, status)
        child.observe((time.perf_counter_ns() - call.started_ns) / 1e9)
