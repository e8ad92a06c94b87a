"""Hostile requests and models against a platform: one clear error each, the engine lives, nobody else waits long."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc
from tiation.engine.v1 import prediction_pb2, prediction_pb2_grpc

from mesh.config import Settings
from security.app import issue_svid
from security.bootstrap import signing_key
from tests.fakes.installed import Installed
from tests.unit.engine.graphs import aligning, doubling, endless, folder, ranging
from tests.unit.engine.test_hostile_pushes import billion, crashing

ENCODER = "tenants/system/models/all-minilm-l6-v2"
WRITER = "tenants/system/models/docs-writer"
_SLACK_S = 1.5
"""What a busy machine may add to anything."""


def embed(channel: grpc.Channel, *texts: str) -> prediction_pb2.EmbedResponse:
    stub = prediction_pb2_grpc.PredictionServiceStub(channel)
    return stub.Embed(prediction_pb2.EmbedRequest(name=ENCODER, texts=texts), timeout=30)


def infer(channel: grpc.Channel, request: pb.ModelInferRequest, timeout_s: float = 10) -> pb.ModelInferResponse:
    return grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=timeout_s)


def rows(model: str, count: int = 1) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name=model, raw_input_contents=[np.ones((count, 2), np.float32).tobytes()])
    made.inputs.add(name="x", datatype="FP32", shape=[count, 2])
    return made


def slowest(here: Installed, count: int = 30) -> float:
    """The longest that one of some short requests of somebody else takes, seconds."""
    took = []
    with here.channel() as channel:
        embed(channel, "warm")
        for _ in range(count):
            began = time.monotonic()
            embed(channel, "a short text")
            took.append(time.monotonic() - began)
    return max(took)


def busy(here: Installed) -> float:
    """The share of a core that the engine uses for a second."""
    return psutil.Process(here.pid("engine")).cpu_percent(1.0) / 100


@contextmanager
def nobody_is_hurt(here: Installed) -> Iterator[None]:
    """The engine is the same process afterwards, as large as before or nearly so, and others are answered meanwhile."""
    engine = psutil.Process(here.pid("engine"))
    before, resident = slowest(here), engine.memory_info().rss
    yield
    assert slowest(here) < 5 * before + _SLACK_S
    assert here.pid("engine") == engine.pid
    assert engine.memory_info().rss - resident < 300 << 20


@pytest.fixture(scope="module")
def doubler(home_of_all: Installed, tmp_path_factory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("models")
    folder(place / "hostile-double", "name: hostile-double\nkind: onnx\n", model=doubling(["n", 2]))
    home_of_all.command("models", "push", str(place / "hostile-double"))
    yield "hostile-double"
    home_of_all.command("models", "delete", "hostile-double", check=False)


LIES = {
    "more rows than bytes": ([1000, 2], "FP32", bytes(8)),
    "fewer rows than bytes": ([1, 2], "FP32", bytes(800)),
    "a cut number": ([1, 2], "FP32", bytes(7)),
    "another width": ([2, 1], "FP32", bytes(8)),
    "another type": ([1, 2], "FP64", bytes(16)),
    "a type that nobody knows": ([1, 2], "FP31", bytes(8)),
    "a negative length": ([-1, 2], "FP32", bytes(8)),
    "lengths whose product overflows": ([2**62, 2**62], "FP32", bytes(8)),
    "a product that wraps to what was sent": ([2**63 - 1, 2], "FP32", bytes(8)),
    "no lengths": ([], "FP32", bytes(8)),
    "too many lengths": ([1] * 2000, "FP32", bytes(4)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_request_that_lies_about_its_shape_or_bytes_is_refused_by_name(
    home_of_all: Installed, doubler: str, lie: str
):
    shape, datatype, raw = LIES[lie]
    request = pb.ModelInferRequest(model_name=doubler, raw_input_contents=[raw])
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    with home_of_all.channel() as channel:
        with pytest.raises(grpc.RpcError) as caught:
            infer(channel, request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "x" in caught.value.details().replace("'", " ").replace("`", " ").replace(":", " ").split()
        assert infer(channel, rows(doubler)).raw_output_contents[0] == np.full((1, 2), 2, np.float32).tobytes()


def test_a_text_of_a_million_tokens_is_refused_or_cut_and_nobody_waits_for_it(home_of_all: Installed):
    text = "word " * 1_000_000
    with nobody_is_hurt(home_of_all), home_of_all.channel() as channel:
        with pytest.raises(grpc.RpcError) as caught:
            embed(channel, "a", "b", text)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "texts[2]: must be at most 65536 bytes" in caught.value.details()
        request = pb.ModelInferRequest(model_name="all-minilm-l6-v2")
        request.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(text.encode())
        threads = [threading.Thread(target=_ask, args=(channel, request)) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert slowest(home_of_all, 10) < 10
        for thread in threads:
            thread.join()


def _ask(channel: grpc.Channel, request: pb.ModelInferRequest) -> None:
    """Ask; whether it is cut or refused is the model's, but nothing else comes of it."""
    try:
        infer(channel, request, 60)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error


@pytest.mark.parametrize(
    ("content", "said"),
    [(crashing(), "ends the process that opens it (SIGFPE)"), (billion(), "of memory to be opened")],
    ids=["ends its process", "a constant of a billion numbers"],
)
def test_a_hostile_model_is_refused_in_one_line(home_of_all: Installed, tmp_path: Path, content: bytes, said: str):
    folder(tmp_path / "hostile", "name: hostile\nkind: onnx\n", model=content)
    with nobody_is_hurt(home_of_all):
        pushed = home_of_all.command("models", "push", str(tmp_path / "hostile"), check=False)
        assert pushed.returncode != 0
        assert f"model.onnx: {said}" in pushed.stderr or said in pushed.stderr, pushed.stderr


def test_a_model_that_computes_for_ever_is_ended_by_its_caller_its_deadline_or_its_unloading(
    home_of_all: Installed, tmp_path: Path
):
    manifest = "name: hostile-endless\nkind: onnx\nbatching: off\n"
    folder(tmp_path / "hostile-endless", manifest, model=endless(["n", 2]))
    home_of_all.command("models", "push", str(tmp_path / "hostile-endless"))
    request = rows("hostile-endless")
    with nobody_is_hurt(home_of_all), home_of_all.channel() as channel:
        before = slowest(home_of_all)
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        computing = stub.ModelInfer.future(request, timeout=60)
        time.sleep(0.5)
        assert busy(home_of_all) > 0.5
        computing.cancel()
        time.sleep(0.5)
        assert busy(home_of_all) < 0.5
        for_ever = stub.ModelInfer.future(request, timeout=60)
        time.sleep(0.5)
        assert slowest(home_of_all) < 5 * before + _SLACK_S
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            infer(channel, request, 1.0)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        taken_back = stub.ModelInfer.future(request, timeout=60)
        time.sleep(0.2)
        taken_back.cancel()
        assert time.monotonic() - began < 5
        home_of_all.command("models", "unload", "hostile-endless:1")
        with pytest.raises(grpc.RpcError) as caught:
            for_ever.result(timeout=30)
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION), caught.value
    home_of_all.command("models", "delete", "hostile-endless", check=False)


def test_loads_and_unloads_that_race_with_requests_end_in_one_state(home_of_all: Installed, doubler: str):
    codes: Counter[object] = Counter()
    over = threading.Event()

    def ask() -> None:
        with home_of_all.channel() as channel:
            while not over.is_set():
                try:
                    infer(channel, rows(doubler))
                    codes["answered"] += 1
                except grpc.RpcError as error:
                    codes[error.code()] += 1

    def change(load: bool) -> None:
        with home_of_all.channel() as channel:
            stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for _ in range(10):
                try:
                    if load:
                        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=doubler), timeout=30)
                    else:
                        stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=doubler), timeout=30)
                except grpc.RpcError as error:
                    codes["change", error.code()] += 1

    with nobody_is_hurt(home_of_all):
        asking = threading.Thread(target=ask)
        asking.start()
        racing = [threading.Thread(target=change, args=(load,)) for load in (True, True, False)]
        for thread in racing:
            thread.start()
        for thread in racing:
            thread.join()
        change(True)
        over.set()
        asking.join()
        assert set(codes) <= {"answered", grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE}, codes
        with home_of_all.channel() as channel:
            assert infer(channel, rows(doubler)).raw_output_contents[0] == np.full((1, 2), 2, np.float32).tobytes()


@pytest.fixture(scope="module")
def flooder(home_of_all: Installed) -> str:
    """The token of somebody who may ask models."""
    home_of_all.command("principals", "create", "flooder")
    home_of_all.command("bindings", "create", "flooder", "--role", "admin", "--principal", "flooder")
    now = int(time.time())
    return signing_key(home_of_all.home, Settings()).token(
        tenant="default", subject="tenants/default/principals/flooder", role="", token_id="flood", begin=now,
        end=now + 600,
    )  # fmt: skip


@pytest.mark.parametrize("way", ["the gateway", "the engine's own port"])
def test_ten_thousand_streams_at_once_are_served_or_refused_and_nobody_else_waits(
    home_of_all: Installed, doubler: str, flooder: str, tmp_path: Path, way: str
):
    address, name = home_of_all.address, "localhost"
    (tmp_path / "ca").write_bytes((home_of_all.home / "ca.pem").read_bytes())
    if way != "the gateway":
        address, name = home_of_all.gateway["services"]["engine"]["address"], "engine.tiation.local"
        svid = issue_svid(home_of_all.home, Settings(), "gateway")
        for file, part in (("ca", "trust_bundle"), ("key", "private_key"), ("chain", "certificate_chain")):
            (tmp_path / file).write_text(svid[part])
    engine = psutil.Process(home_of_all.pid("engine"))
    resident = engine.memory_info().rss
    with nobody_is_hurt(home_of_all):
        before = slowest(home_of_all)
        flood = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("stream_flood.py")), address, name, str(tmp_path), flooder,
             doubler],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            opening = slowest(home_of_all)
            found = json.loads(flood.stdout.readline())
            during, grown = slowest(home_of_all), engine.memory_info().rss - resident
            flood.communicate("\n", timeout=60)
        finally:
            flood.kill()
            flood.wait()
        assert found.pop("answered") >= 500
        assert set(found) <= {"RESOURCE_EXHAUSTED", "UNAVAILABLE", "ENDED_WHILE_WRITING", "FULL"}, found
        assert found["RESOURCE_EXHAUSTED"] > 100, found
        assert max(opening, during) < 10 * before + 4 * _SLACK_S
        assert grown < 400 << 20


def test_streams_of_text_that_nobody_reads_are_bounded_and_forgotten_once_their_readers_go(home_of_all: Installed):
    body = json.dumps({"model": WRITER, "prompt": "The", "stream": True, "max_tokens": 200, "n": 4}).encode()
    token = Path(home_of_all.gateway["token_file"]).read_text().strip()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    context = ssl.create_default_context(cafile=str(home_of_all.home / "ca.pem"))
    host, _, port = home_of_all.address.rpartition(":")
    engine, readers = psutil.Process(home_of_all.pid("engine")), []
    with nobody_is_hurt(home_of_all), ExitStack() as unread:
        for _ in range(48):
            plain = unread.enter_context(socket.socket())
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            plain.connect((host, int(port)))
            secure = unread.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
            secure.settimeout(30)
            secure.sendall(head.encode() + body)
            readers.append(secure)
        resident = engine.memory_info().rss
        assert slowest(home_of_all) < 10
        time.sleep(2)
        assert engine.memory_info().rss - resident < 200 << 20
        assert {reader.recv(12) for reader in readers} == {b"HTTP/1.1 200"}
    with home_of_all.rest() as client:  # whoever reads is answered soon
        answer = client.post("/v1/completions", json={"model": WRITER, "prompt": "The", "max_tokens": 5})
        assert answer.status_code == 200, answer.text


def boxes(side: float) -> pb.ModelInferRequest:
    raw = np.array([[0, 0, side, side]], np.float32).tobytes()
    made = pb.ModelInferRequest(model_name="hostile-boxes", raw_input_contents=[raw])
    made.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    return made


def test_a_model_that_ends_the_engine_for_certain_requests_is_put_away_and_all_else_comes_back(
    home_of_all: Installed, doubler: str, tmp_path: Path
):
    folder(tmp_path / "hostile-boxes", "name: hostile-boxes\nkind: onnx\nbatching: off\n", model=aligning())
    home_of_all.command("models", "push", str(tmp_path / "hostile-boxes"))
    with home_of_all.channel() as channel:
        assert infer(channel, boxes(2.0)).outputs[0].shape == [1, 1]
        for _ in range(2):
            pid = home_of_all.pid("engine")
            with pytest.raises(grpc.RpcError) as caught:
                infer(channel, boxes(1e18))
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE, caught.value
            began = time.monotonic()
            while not _answers(channel, doubler):
                assert time.monotonic() - began < 20
                time.sleep(0.05)
            assert home_of_all.pid("engine") != pid
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        index = stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=10).models
        (found,) = [each for each in index if each.name == "hostile-boxes"]
        assert found.state == "UNAVAILABLE"
        assert "ended the engine twice while it computed (Aborted)" in found.reason
        with pytest.raises(grpc.RpcError) as caught:
            infer(channel, boxes(1e18))
        assert caught.value.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)
        assert _answers(channel, doubler)
    looked = home_of_all.command("doctor", "--output", "json", check=False)
    found = {finding["what"]: finding["detail"] for finding in json.loads(looked.stdout)}
    boxes_1 = "tenants/default/models/hostile-boxes/versions/1"
    assert found["put away"] == f"{boxes_1} ended the engine twice while it computed (Aborted)"
    assert "engine was ended by signal 6 (SIGABRT) at 20" in found["ended by itself"]
    home_of_all.command("models", "delete", "hostile-boxes", check=False)


def _answers(channel: grpc.Channel, model: str) -> bool:
    try:
        infer(channel, rows(model), 2)
    except grpc.RpcError:
        return False
    return True


def test_a_value_that_asks_for_more_memory_than_there_is_is_refused_and_nothing_of_it_stays(
    home_of_all: Installed, tmp_path: Path
):
    folder(tmp_path / "hostile-range", "name: hostile-range\nkind: onnx\nbatching: off\n", model=ranging())
    home_of_all.command("models", "push", str(tmp_path / "hostile-range"))
    with nobody_is_hurt(home_of_all), home_of_all.channel() as channel:
        for count in (2e8, 1e10, 1e18):
            made = pb.ModelInferRequest(model_name="hostile-range", raw_input_contents=[np.float32(count).tobytes()])
            made.inputs.add(name="x", datatype="FP32", shape=[])
            if count < 1e9:
                infer(channel, made, 60)
                continue
            with pytest.raises(grpc.RpcError) as caught:
                infer(channel, made)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "needs more memory for this input than there is" in caught.value.details()
    home_of_all.command("models", "delete", "hostile-range", check=False)
