"""Profiles: requests fit what the model takes, figures are those of the load, and the advice follows from them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc

from cli.profiling.advice import best_of, max_batch_of
from cli.profiling.load import Counted, Measured, counted, measure
from cli.profiling.samples import NoSampleError, made_up

Tensor = pb.ModelMetadataResponse.TensorMetadata


def model(*inputs: tuple[str, str, list[int]]) -> pb.ModelMetadataResponse:
    return pb.ModelMetadataResponse(name="m", inputs=[Tensor(name=n, datatype=d, shape=s) for n, d, s in inputs])


def sample(metadata: pb.ModelMetadataResponse, rows: int = 2, seed: int = 0, **shapes: list[int]):
    return made_up(metadata, rows, words=5, seed=seed, shapes=shapes)


def test_a_request_has_the_rows_and_the_types_that_the_model_takes():
    request = sample(
        model(("x", "FP32", [-1, 3]), ("input_ids", "INT64", [-1, -1]), ("attention_mask", "INT64", [-1, -1])), 4
    )
    assert [list(each.shape) for each in request.inputs] == [[4, 3], [4, 16], [4, 16]]
    x, ids, mask = request.raw_input_contents
    assert len(x) == 4 * 3 * 4
    assert np.frombuffer(ids, np.int64).min() >= 1
    assert set(np.frombuffer(mask, np.int64)) == {1}
    assert request.parameters["cache"].bool_param is False


def test_texts_have_the_words_that_are_asked_for_and_differ_from_request_to_request():
    one, same, other = (sample(model(("text", "BYTES", [-1])), 3, seed) for seed in (1, 1, 2))
    [data] = one.raw_input_contents
    assert same.raw_input_contents == one.raw_input_contents != other.raw_input_contents
    texts = []
    while data:
        size = int.from_bytes(data[:4], "little")
        texts.append(data[4 : 4 + size].decode())
        data = data[4 + size :]
    assert [len(text.split()) for text in texts] == [5, 5, 5]


def test_an_image_is_one_that_can_be_read():
    [data] = sample(model(("image", "BYTES", [-1])), 1).raw_input_contents
    assert data[4:7] == b"\xff\xd8\xff"


def test_open_axes_take_the_lengths_that_are_said():
    request = sample(model(("x", "FP32", [-1, -1, -1])), 1, x=[5, 7])
    assert list(request.inputs[0].shape) == [1, 5, 7]
    with pytest.raises(NoSampleError, match="--shape x: a row has 2 further axes, not 1"):
        sample(model(("x", "FP32", [-1, -1, -1])), 1, x=[5])


def test_what_cannot_be_made_up_is_said():
    with pytest.raises(NoSampleError, match=r"x: has 1 rows and no other number; measure it with --batch 1"):
        sample(model(("x", "FP32", [1, 3])), 2)
    with pytest.raises(NoSampleError, match="x: nothing can be made up of type BF16"):
        sample(model(("x", "BF16", [-1])))


def line(concurrency: int, items: float, p99: float) -> Measured:
    return Measured(concurrency, 1, items, p99 / 2, p99, 0, 1, 0)


def test_the_best_is_the_quickest_of_those_that_answer_the_most():
    lines = [line(1, 100, 10), line(8, 398, 21), line(16, 400, 60), line(32, 380, 90)]
    assert best_of(lines) == lines[1]
    assert best_of(lines, latency_ms=15) == lines[0]
    assert best_of(lines, latency_ms=5) is None
    assert best_of([]) is None


def test_the_largest_batch_that_is_worth_it_is_the_smallest_that_is_as_fast_a_row():
    ms = 1_000_000
    assert max_batch_of({1: (50, 50 * 4 * ms), 8: (50, 50 * 16 * ms), 16: (50, 50 * 32 * ms)}) == 8
    assert max_batch_of({1: (50, 50 * ms), 16: (2, 2 * ms)}) is None  # 16 was not run often enough
    assert max_batch_of({1: (50, 50 * 4 * ms), 8: (50, 50 * 16 * ms)}) is None  # who knows what 9 would do
    assert max_batch_of({}) is None


class Engine(grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers, refuses every third request, and counts."""

    def __init__(self, error: grpc.StatusCode | None = None):
        self.answered = self.asked = 0
        self.error = error

    def ModelInfer(self, request, context):
        self.asked += 1
        if self.error is not None:
            context.abort(self.error, "no")
        if self.asked % 3 == 0:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        self.answered += 1
        return pb.ModelInferResponse()

    def ModelStatistics(self, request, context):
        stats = pb.ModelStatistics(inference_count=2 * self.answered, execution_count=self.answered)
        stats.inference_stats.success.count = self.answered
        stats.inference_stats.queue.ns = 3_000_000 * self.answered
        batch = stats.batch_stats.add(batch_size=2)
        batch.compute_infer.count, batch.compute_infer.ns = self.answered, 1000 * self.answered
        return pb.ModelStatisticsResponse(model_stats=[stats])


@pytest.fixture
def served():
    servers = []

    def serve(engine: Engine):
        server = grpc.server(ThreadPoolExecutor(8))
        grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(engine, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        servers.append((server, channel))
        return grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)

    yield serve
    for server, channel in servers:
        channel.close()
        server.stop(0).wait()


def test_a_load_is_measured_and_what_was_refused_is_counted_apart(served):
    engine = Engine()
    stub = served(engine)
    found = measure(stub, [pb.ModelInferRequest()], lambda: counted(stub, "m", ""), concurrency=3, batch=2, seconds=0.4)
    assert found is not None
    assert (found.concurrency, found.batch, found.average_batch) == (3, 2, 2.0)
    assert found.queue_ms == pytest.approx(3.0)
    assert 0 < found.p50_ms <= found.p99_ms
    assert 0 < found.items_per_s <= 2 * engine.answered / 0.4
    assert found.refused > 0


def test_a_model_that_fails_ends_the_measurement_with_its_error(served):
    stub = served(Engine(grpc.StatusCode.NOT_FOUND))
    with pytest.raises(grpc.RpcError) as failed:
        measure(stub, [pb.ModelInferRequest()], lambda: counted(stub, "m", ""), concurrency=4, batch=1, seconds=5)
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND


def test_only_what_has_come_to_it_counts():
    before = Counted(10, 100, 20, 5, {2: (5, 50)})
    after = Counted(30, 400, 60, 15, {2: (5, 50), 4: (10, 90)})
    assert after.since(before) == Counted(20, 300, 40, 10, {4: (10, 90)})
