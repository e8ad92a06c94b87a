"""The service's own figures for Prometheus: how far behind it is, and what counting costs."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["Figures"]

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Figures:
    """The figures.

    Args:
        registry: where they are collected.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.counted = Counter("tiation_analytics_facts", "Facts that have been counted.", registry=registry)
        self.left_out = Counter(
            "tiation_analytics_facts_left_out",
            "Records that could not be counted; the log has each.",
            registry=registry,
        )
        self.behind = Gauge(
            "tiation_analytics_facts_behind", "Records that security holds and that are not counted.", registry=registry
        )
        self.behind_seconds = Gauge(
            "tiation_analytics_facts_behind_seconds",
            "How long ago security received the newest record that is counted; 0 when nothing is left to count.",
            registry=registry,
        )
        self.write_seconds = Histogram(
            "tiation_analytics_rollup_write_seconds",
            "Time to keep one batch of facts, commit included.",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self.failures = Counter(
            "tiation_analytics_rollup_failures", "Batches that were not kept and are counted again.", registry=registry
        )
