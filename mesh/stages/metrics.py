"""How many calls there are, how they end and how long they take, named after OpenTelemetry's conventions."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mesh.call import Call
from mesh.errors import Code

__all__ = ["CallMetrics"]

_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BOUNDS = (*map(str, _BUCKETS_S), "+Inf")


class _Durations:
    """How long the calls of one method took that ended in one way."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * len(_BOUNDS)
        self.sum_s = 0.0


class CallMetrics(Collector):
    """Counts calls, on the event loop; what is counted is put into Prometheus's form when somebody looks.

    Args:
        registry: where the figures are collected.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._durations: dict[tuple[str, int], _Durations] = {}
        self._active = 0
        self._unrecorded = 0
        registry.register(self)

    def open(self, _call: Call) -> None:
        """Count a call in."""
        self._active += 1

    def unrecorded(self) -> None:
        """Count a call whose record could not be kept."""
        self._unrecorded += 1

    def close(self, call: Call) -> None:
        """Count a call out."""
        self._active -= 1
        key = (call.method.name, call.code)
        durations = self._durations.get(key)
        if durations is None:
            durations = self._durations[key] = _Durations()
        took_s = (time.perf_counter_ns() - call.started_ns) / 1e9
        durations.counts[bisect_left(_BUCKETS_S, took_s)] += 1
        durations.sum_s += took_s

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now."""
        duration = HistogramMetricFamily(
            "rpc_server_duration_seconds",
            "Time from a call's arrival to its answer.",
            labels=("rpc_service", "rpc_method", "rpc_grpc_status_code"),
        )
        for (name, code), found in list(self._durations.items()):
            service, _, method = name.partition("/")
            buckets = zip(_BOUNDS, accumulate(found.counts), strict=True)
            duration.add_metric((service, method, Code(code).name if code else "OK"), list(buckets), found.sum_s)
        yield duration
        yield GaugeMetricFamily("rpc_server_active_requests", "Calls being served.", self._active)
        yield CounterMetricFamily(
            "tiation_record_failures", "Calls refused because no record could be kept.", self._unrecorded
        )
