"""A service of BentoML, with its adaptive batching."""

import os
import sys

import bentoml

sys.path.insert(0, os.environ["BENCH_SERVERS"])

from runtime import MAX_BATCH, Model


@bentoml.service(
    workers=1,
    traffic={"timeout": 60, "max_concurrency": 256},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Served:
    """What BentoML asks for."""

    def __init__(self):
        self._tiny, self._encoder = Model("tiny-mlp"), Model("all-minilm-l6-v2")

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=1000, route="/tiny-mlp")
    def tiny(self, rows: list[dict]) -> list[list[float]]:
        """Answer a batch."""
        return [row.tolist() for row in self._tiny.compute_rows(rows)]

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=1000, route="/all-minilm-l6-v2")
    def encoder(self, rows: list[dict]) -> list[list[float]]:
        """Answer a batch."""
        return [row.tolist() for row in self._encoder.compute_rows(rows)]
