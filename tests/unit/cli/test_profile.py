"""Profiles: requests fit what the model takes, figures are those of the load, and the advice follows from them."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc, model_config_pb2
from tiation.engine.v1 import prediction_pb2, prediction_pb2_grpc

from cli.profiling.advice import best_of, max_batch_of, run_times
from cli.profiling.load import Counted, Measured, counted, measure
from cli.profiling.report import say_measured, say_written
from cli.profiling.samples import NoSampleError, categories_of, made_up
from cli.profiling.writing import AnswerError, Written, measure_writing

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


def test_an_axis_of_an_input_that_there_is_not_is_refused_with_those_that_there_are():
    with pytest.raises(NoSampleError, match="--shape z: the model has no input `z`; it takes x, y"):
        sample(model(("x", "FP32", [-1, -1]), ("y", "FP32", [-1])), z=[3])


def test_columns_of_categories_hold_nothing_else():
    columns = [
        {"name": "area", "input": "area"},
        {"name": "town", "input": "words", "categories": ["Bern", "Chur"]},
        {"name": "note", "input": "words"},
    ]
    config = model_config_pb2.ModelConfig()
    config.parameters["columns"].string_value = json.dumps(columns)
    metadata = model(("area", "FP32", [-1, 1]), ("words", "BYTES", [-1, 2]))
    request = made_up(metadata, 20, words=5, seed=0, shapes={}, categories=categories_of(config))
    data, cells = request.raw_input_contents[1], []
    while data:
        size = int.from_bytes(data[:4], "little")
        cells.append(data[4 : 4 + size].decode())
        data = data[4 + size :]
    assert set(cells[::2]) == {"Bern", "Chur"}
    assert {len(cell.split()) for cell in cells[1::2]} == {5}
    assert categories_of(model_config_pb2.ModelConfig()) == {}


def line(concurrency: int, items: float, p99: float, average_batch: float = 1) -> Measured:
    return Measured(concurrency, 1, items, p99 / 2, p99, 0, average_batch, 0)


def test_the_best_is_the_quickest_of_those_that_answer_the_most():
    lines = [line(1, 100, 10), line(8, 398, 21), line(16, 400, 60), line(32, 380, 90)]
    assert best_of(lines) == lines[1]
    assert best_of(lines, latency_ms=15) == lines[0]
    assert best_of(lines, latency_ms=5) is None
    assert best_of([]) is None


def test_the_largest_batch_that_is_worth_it_is_the_smallest_that_is_as_fast_a_row():
    ms = 1_000_000
    lines = [line(1, 100, 10, 1), line(8, 400, 20, 8), line(16, 405, 40, 16)]
    assert max_batch_of({1: (50, 50 * 4 * ms), 8: (50, 50 * 16 * ms), 16: (50, 50 * 32 * ms)}, lines) == 8
    assert max_batch_of({1: (50, 50 * ms), 16: (2, 2 * ms)}, lines) is None  # 16 was not run often enough
    assert max_batch_of({1: (50, 50 * 4 * ms), 8: (50, 50 * 16 * ms)}, lines) is None  # who knows what 9 would do
    assert max_batch_of({}, lines) is None
    assert max_batch_of({1: (50, 50 * ms), 8: (50, 50 * 8 * ms)}, []) is None


RUNS = Counted(0, 0, 0, 0, {1: (50, 50_000_000), 4: (50, 150_000_000), 32: (50, 1_200_000_000)})
"""Milliseconds a row: 1, 0.75, 0.75."""


def test_no_smaller_batch_is_advised_where_larger_runs_brought_clients_more(capsys):
    climbing = [line(1, 101, 10, 1), line(4, 147, 20, 4), line(16, 235, 60, 32)]
    assert run_times(RUNS.batches) == {1: 1.0, 4: 0.75, 32: 0.75}
    assert max_batch_of(RUNS.batches, climbing) is None
    say_measured(climbing, RUNS, max_batch=32, is_own=True, latency_ms=0, stopped="", output="table")
    shown = capsys.readouterr().out
    assert "max_batch" not in shown
    assert "Best: 16 clients with 1 row a request: 235 rows a second" in shown
    assert [each.split() for each in shown.splitlines()[5:9]] == [
        ["rows", "of", "a", "run", "runs", "ms", "a", "row"],
        ["1", "50", "1.000"],
        ["4", "50", "0.750"],
        ["32", "50", "0.750"],
    ]


def test_what_ships_gets_no_lines_for_a_manifest_that_nobody_may_change(capsys):
    level = [line(1, 101, 10, 1), line(4, 234, 20, 4), line(16, 235, 60, 32)]
    for is_own in (True, False):
        say_measured(level, RUNS, max_batch=32, is_own=is_own, latency_ms=0, stopped="", output="table")
        assert ("  max_batch: 4" in capsys.readouterr().out) is is_own


class Engine(grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers, refuses every third request, and counts."""

    def __init__(self, error: grpc.StatusCode | None = None):
        self.answered = self.asked = 0
        self.error = error
        self.sequences: list[tuple[int, bool, bool]] = []

    def ModelInfer(self, request, context):
        self.asked += 1
        told = request.parameters
        if "sequence_id" in told:
            step = (told["sequence_id"].int64_param, told["sequence_start"].bool_param, told["sequence_end"].bool_param)
            self.sequences.append(step)
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


def test_a_model_that_remembers_gets_each_request_as_a_sequence_of_its_own(served):
    engine = Engine()
    stub = served(engine)
    request = pb.ModelInferRequest()
    for sequences in (False, True):
        engine.sequences.clear()
        assert measure(
            stub, [request], lambda: counted(stub, "m", ""), concurrency=2, batch=1, seconds=0.2, sequences=sequences
        )  # fmt: skip
        ids = {id_ for id_, _, _ in engine.sequences}
        assert len(ids) == len(engine.sequences)
        assert (len(ids) > 2) is sequences
        assert all(id_ > 0 and starts and ends for id_, starts, ends in engine.sequences)
    assert not request.parameters


class Writer(prediction_pb2_grpc.PredictionServiceServicer):
    """Writes so many tokens, one each 10 ms after a first one that takes 30."""

    def __init__(self, error: str = "", tokens: int = 5):
        self.prompts: list[str] = []
        self.error = error
        self.tokens = tokens

    def Generate(self, request, context):
        self.prompts.append(request.prompts[0].text)
        if len(self.prompts) % 3 == 0:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        for at in range(1, self.tokens + 1):
            time.sleep(0.03 if at == 1 else 0.01)
            if self.error:
                failed = prediction_pb2.GenerateResponse()
                failed.error.message = self.error
                yield failed
                return
            yield prediction_pb2.GenerateResponse(text="a", completion_tokens=at)


@pytest.fixture
def writing():
    servers = []

    def serve(writer: Writer):
        server = grpc.server(ThreadPoolExecutor(8))
        prediction_pb2_grpc.add_PredictionServiceServicer_to_server(writer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        servers.append((server, channel))
        return prediction_pb2_grpc.PredictionServiceStub(channel)

    yield serve
    for server, channel in servers:
        channel.close()
        server.stop(0).wait()


def test_a_model_that_writes_is_measured_by_its_tokens_and_by_what_readers_wait(writing):
    writer = Writer()
    found = measure_writing(
        writing(writer), prediction_pb2.GenerateRequest(), concurrency=2, words=7, seconds=0.6
    )  # fmt: skip
    assert found is not None
    assert 28 <= found.first_p50_ms <= found.first_p99_ms
    assert 8 <= found.token_ms < found.first_p50_ms
    assert found.answers >= 2
    assert found.refused > 0
    assert 5 < found.tokens_per_s < 2 * 5 / 0.07
    assert {len(prompt.split()) for prompt in writer.prompts} == {7}
    assert len(set(writer.prompts)) == len(writer.prompts)


def test_an_answer_longer_than_the_measurement_counts_as_far_as_it_came(writing):
    began = time.perf_counter()
    found = measure_writing(
        writing(Writer(tokens=2000)), prediction_pb2.GenerateRequest(), concurrency=1, words=3, seconds=0.3
    )  # fmt: skip
    assert time.perf_counter() - began < 5
    assert found is not None
    assert (found.answers, found.refused) == (1, 0)
    assert found.first_p50_ms >= 28
    assert 8 <= found.token_ms < 28
    assert 5 < found.tokens_per_s <= 100


def test_an_answer_that_cannot_be_finished_ends_the_measurement(writing):
    with pytest.raises(AnswerError, match="no memory"):
        measure_writing(
            writing(Writer("no memory")), prediction_pb2.GenerateRequest(), concurrency=2, words=3, seconds=5
        )  # fmt: skip


def test_what_was_written_is_shown_in_tokens(capsys):
    lines = [Written(1, 80, 12, 20, 9, 4, 0), Written(4, 200, 40, 90, 11, 9, 1)]
    say_written(lines, latency_ms=50, stopped="", output="table")
    shown = capsys.readouterr().out
    assert shown.split("\n")[0].split() == [
        "concurrency", "tokens/s", "first", "p50", "ms", "first", "p99", "ms", "token", "ms", "answers", "refused",
    ]  # fmt: skip
    assert "Best: 1 reader: 80 tokens a second, the first within 20.0 ms (p99)" in shown
    say_written(lines, latency_ms=5, stopped="interrupted", output="json")
    assert json.loads(capsys.readouterr().out)["best"] is None
