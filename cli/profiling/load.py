"""Measures a model that answers at once, with so many clients of the Open Inference Protocol.

What is sent is made in `cli.profiling.samples`; what follows from the figures is `cli.profiling.advice`'s.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference import grpc_service_pb2 as pb

from cli.profiling.clients import CALL_S, Clients

__all__ = ["Counted", "Measured", "counted", "measure"]


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

    @property
    def per_s(self) -> float:
        """What is best where it is most."""
        return self.items_per_s

    @property
    def slowest_ms(self) -> float:
        """What may be limited."""
        return self.p99_ms


def counted(stub: Any, model: str, version: str) -> Counted:  # noqa: ANN401 -- see `connect`
    """What the engine has counted of a model."""
    answer = stub.ModelStatistics(pb.ModelStatisticsRequest(name=model, version=version), timeout=CALL_S)
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
    sequences: bool = False,
) -> Measured | None:
    """One line of the table; None where nothing was answered, ten seconds longer.

    Args:
        stub: of the inference service.
        requests: that are sent in turn, each of `batch` rows.
        count: what the engine has counted until now.
        concurrency: how many clients send.
        batch: rows of a request.
        seconds: how long is measured, after a moment that is not.
        sequences: whether each request is sent as a sequence of its own, of one step.

    Raises:
        grpc.RpcError: a request was refused for another reason than that there is no place.
    """
    times: list[float] = []
    draw = random.Random()  # noqa: S311 -- no secret: ids that no other caller's sequences have

    def ask(at: int) -> None:
        request = requests[at % len(requests)]
        if sequences:
            request = _alone(request, draw.getrandbits(62) | 1)
        began = time.perf_counter()
        stub.ModelInfer(request, timeout=CALL_S)
        if clients.measuring.is_set():
            times.append(time.perf_counter() - began)

    clients = Clients(ask, lambda: len(times))
    took, before, after = clients.measured(concurrency, seconds, count)
    return _line(times, clients.refused, after.since(before), concurrency=concurrency, batch=batch, seconds=took)


def _alone(request: pb.ModelInferRequest, sequence: int) -> pb.ModelInferRequest:
    """A request as the only step of a sequence."""
    made = pb.ModelInferRequest()
    made.CopyFrom(request)
    made.parameters["sequence_id"].int64_param = sequence
    made.parameters["sequence_start"].bool_param = made.parameters["sequence_end"].bool_param = True
    return made


def _line(
    times: list[float], refused: int, here: Counted, *, concurrency: int, batch: int, seconds: float
) -> Measured | None:
    times.sort()
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
        refused,
    )
