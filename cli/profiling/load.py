"""Drives a model with so many clients at once, each of which sends its next request when it has its answer.

What is sent is made in `cli.profiling.samples`; what follows from the figures is `cli.profiling.advice`'s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from inference import grpc_service_pb2 as pb

__all__ = ["Counted", "Measured", "counted", "measure"]

_WARM_S = 0.3
_CALL_S = 60.0
_FIRST_S = 10.0
_BACK_OFF_S = 0.02
"""How long a client that was refused waits before it asks again."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What the engine has counted of a model since it started.

    Attributes:
        requests: that were answered.
        queue_ns: how long they waited, together.
        rows: that were computed.
        runs: in which they were.
        batches: by rows of a run: how many runs, and how long they were in the model, nanoseconds.
    """

    requests: int
    queue_ns: int
    rows: int
    runs: int
    batches: Mapping[int, tuple[int, int]]

    def since(self, before: Counted) -> Counted:
        """What has come to it."""
        batches = {
            rows: (count - before.batches.get(rows, (0, 0))[0], ns - before.batches.get(rows, (0, 0))[1])
            for rows, (count, ns) in self.batches.items()
        }
        return Counted(
            self.requests - before.requests,
            self.queue_ns - before.queue_ns,
            self.rows - before.rows,
            self.runs - before.runs,
            {rows: each for rows, each in batches.items() if each[0] > 0},
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of the table.

    Attributes:
        concurrency: clients at once.
        batch: rows of a request.
        items_per_s: rows that were answered in a second.
        p50_ms: half of the requests took no longer, as the client sees it.
        p99_ms: 99 of 100.
        queue_ms: how long a request waited in the engine, on average.
        average_batch: rows of a run, on average.
        refused: requests that were answered RESOURCE_EXHAUSTED.
    """

    concurrency: int
    batch: int
    items_per_s: float
    p50_ms: float
    p99_ms: float
    queue_ms: float
    average_batch: float
    refused: int


@dataclass(slots=True)
class _Clients:
    """Clients at work, and what they have seen."""

    stub: Any
    requests: Sequence[pb.ModelInferRequest]
    stop: threading.Event = field(default_factory=threading.Event)
    measuring: threading.Event = field(default_factory=threading.Event)
    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    error: grpc.RpcError | None = None

    def work(self, at: int) -> None:
        """One client."""
        while not self.stop.is_set():
            request = self.requests[at % len(self.requests)]
            at += 1
            began = time.perf_counter()
            try:
                self.stub.ModelInfer(request, timeout=_CALL_S)
            except grpc.RpcError as error:
                failed: Any = error
                if failed.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    self.error = self.error or error
                    self.stop.set()
                    return
                self.refused += self.measuring.is_set()
                self.stop.wait(_BACK_OFF_S)
            else:
                if self.measuring.is_set():
                    self.seconds.append(time.perf_counter() - began)


def counted(stub: Any, model: str, version: str) -> Counted:  # noqa: ANN401 -- see `connect`
    """What the engine has counted of a model."""
    answer = stub.ModelStatistics(pb.ModelStatisticsRequest(name=model, version=version), timeout=_CALL_S)
    found = [each.inference_stats for each in answer.model_stats]
    batches: dict[int, tuple[int, int]] = {}
    for each in answer.model_stats:
        for batch in each.batch_stats:
            runs, ns = batches.get(batch.batch_size, (0, 0))
            batches[batch.batch_size] = runs + batch.compute_infer.count, ns + batch.compute_infer.ns
    return Counted(
        sum(each.success.count for each in found),
        sum(each.queue.ns for each in found),
        sum(each.inference_count for each in answer.model_stats),
        sum(each.execution_count for each in answer.model_stats),
        batches,
    )


def measure(
    stub: Any,  # noqa: ANN401 -- see `connect`
    requests: Sequence[pb.ModelInferRequest],
    count: Callable[[], Counted],
    *,
    concurrency: int,
    batch: int,
    seconds: float,
) -> Measured | None:
    """One line of the table; None where nothing was answered, ten seconds longer.

    Args:
        stub: of the inference service.
        requests: that are sent in turn, each of `batch` rows.
        count: what the engine has counted until now.
        concurrency: how many clients send.
        batch: rows of a request.
        seconds: how long is measured, after a moment that is not.

    Raises:
        grpc.RpcError: a request was refused for another reason than that there is no place.
    """
    clients = _Clients(stub, requests)
    threads = [threading.Thread(target=clients.work, args=(at,), daemon=True) for at in range(concurrency)]
    for thread in threads:
        thread.start()
    try:
        clients.stop.wait(min(_WARM_S, seconds))
        before, began = count(), time.perf_counter()
        clients.measuring.set()
        clients.stop.wait(seconds)
        while not (clients.seconds or clients.stop.is_set()) and time.perf_counter() - began < seconds + _FIRST_S:
            clients.stop.wait(_BACK_OFF_S)  # a slow model gets the time for one answer
        clients.measuring.clear()
        took, after = time.perf_counter() - began, count()
    finally:
        clients.stop.set()
        for thread in threads:
            thread.join(_CALL_S)
    if clients.error is not None:
        raise clients.error
    return _line(clients, after.since(before), concurrency=concurrency, batch=batch, seconds=took)


def _line(clients: _Clients, here: Counted, *, concurrency: int, batch: int, seconds: float) -> Measured | None:
    times = sorted(clients.seconds)
    if not times:
        return None
    return Measured(
        concurrency,
        batch,
        len(times) * batch / seconds,
        1000 * times[len(times) // 2],
        1000 * times[min(len(times) - 1, len(times) * 99 // 100)],
        here.queue_ns / 1e6 / max(1, here.requests),
        here.rows / max(1, here.runs),
        clients.refused,
    )
