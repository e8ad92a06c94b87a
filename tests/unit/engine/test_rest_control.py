"""The REST side before a real repository: every datatype, and Triton's extensions as its clients read them."""

from __future__ import annotations

import json
import secrets
import threading
from multiprocessing import shared_memory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from google.api import httpbody_pb2
from google.protobuf import empty_pb2
from tiation.engine.v1 import inference_rest_pb2 as pb

from engine.errors import BodyError, EngineError, ModelNotReadyError, NotServedError, TensorError
from engine.oip.control import RepositoryControl
from engine.oip.shared_memory import Regions
from engine.servicers.inference import InferenceServicer
from engine.servicers.inference_facts import Facts
from engine.servicers.inference_rest import InferenceRestServicer
from engine.tensor import DATATYPES, decode_raw, encode_raw
from mesh.identity import Caller, set_caller
from tests.unit.engine.graphs import opened
from tests.unit.engine.test_aside import One
from tests.unit.engine.test_datatypes import echo, values


class Asking:
    """A call with these headers; what is sent back as headers is kept."""

    def __init__(self, **headers: str) -> None:
        self._headers = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        self.sent: dict[str, str] = {}

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        self.read_by = threading.get_ident()
        return self._headers

    async def send_initial_metadata(self, headers) -> None:
        self.sent |= dict(headers)


def body(value: Any = None) -> httpbody_pb2.HttpBody:
    return httpbody_pb2.HttpBody(data=b"" if value is None else json.dumps(value).encode())


def said(answer: httpbody_pb2.HttpBody) -> Any:
    assert answer.content_type == "application/json"
    return json.loads(answer.data)


@pytest.fixture
def regions():
    made = Regions("any")
    yield made
    made.close()


@pytest.fixture
def caller():
    set_caller(Caller("t", "tenants/t/principals/p", "spiffe://tiation.local/svc/gateway"))
    yield
    set_caller(None)


def serving(repository, regions, catalogue=None) -> InferenceRestServicer:
    facts = Facts("cpu", "warning", traced=True, sample_ratio=0.1)
    return InferenceRestServicer(
        InferenceServicer(repository, RepositoryControl(repository, catalogue), regions, facts)
    )


@pytest.mark.parametrize("datatype", DATATYPES)
async def test_every_datatype_comes_back_as_it_went(tmp_path, caller, regions, datatype):
    made = opened(tmp_path, "name: m\nkind: onnx", m=echo(datatype))
    rest = serving(One(made), regions)
    try:
        for rows in (2, 0):
            raw = encode_raw(values(datatype, rows))
            given = {"name": "x", "shape": [rows, 3], "datatype": datatype}
            flat = decode_raw("x", datatype, [rows, 3], raw).ravel()
            numbers = flat.astype(np.float32) if datatype in ("FP16", "BF16") else flat
            data = [text.decode() for text in flat] if datatype == "BYTES" else numbers.tolist()
            plain = await rest.Infer(
                pb.RestInferRequest(model_name="m", body=body({"inputs": [{**given, "data": data}]})), Asking()
            )
            assert said(plain)["outputs"] == [{"name": "y", "datatype": datatype, "shape": [rows, 3], "data": data}]
            asked = {"inputs": [{**given, "parameters": {"binary_data_size": len(raw)}}]}
            asked["parameters"] = {"binary_data_output": True}
            text = json.dumps(asked).encode()
            asking = Asking(inference_header_content_length=str(len(text)))
            packed = await rest.Infer(
                pb.RestInferRequest(model_name="m", body=httpbody_pb2.HttpBody(data=text + raw)), asking
            )
            assert packed.content_type == "application/octet-stream"
            end = int(asking.sent["inference-header-content-length"])
            assert packed.data[end:] == raw
    finally:
        made.close()


async def test_what_is_asked_for_twice_or_is_not_there_is_refused(tmp_path, caller, regions):
    made = opened(tmp_path, "name: m\nkind: onnx", m=echo("FP32"))
    rest = serving(One(made), regions)
    x = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    try:
        for request, word in (
            ({"inputs": [x, x]}, "twice"),
            ({"inputs": [{**x, "name": "z"}]}, "no such input"),
            ({"inputs": [x], "outputs": [{"name": "y"}, {"name": "y"}]}, "twice"),
            ({"inputs": [x], "outputs": [{"name": "z"}]}, "no such output"),
            ({"inputs": []}, "is missing"),
        ):
            with pytest.raises(TensorError, match=word):
                await rest.Infer(pb.RestInferRequest(model_name="m", body=body(request)), Asking())
    finally:
        made.close()


async def test_large_bodies_are_read_aside(tmp_path, caller, regions):
    made = opened(tmp_path, "name: m\nkind: onnx", m=echo("FP32"))
    rest = serving(One(made), regions)
    try:
        for rows, aside in ((2, False), (100_000, True)):
            asking = Asking()
            x = {"name": "x", "shape": [rows, 3], "datatype": "FP32", "data": [0.5] * (3 * rows)}
            answer = said(await rest.Infer(pb.RestInferRequest(model_name="m", body=body({"inputs": [x]})), asking))
            assert answer["outputs"][0]["data"] == x["data"]
            assert (asking.read_by != threading.get_ident()) == aside
    finally:
        made.close()


async def test_tensors_may_lie_in_shared_memory(tmp_path, caller, regions):
    memory = shared_memory.SharedMemory(f"t.{secrets.token_hex(6)}", create=True, size=64)
    made = opened(tmp_path, "name: m\nkind: onnx", m=echo("FP32"))
    rest, asking = serving(One(made), regions), Asking()
    try:
        where = {"key": f"/{memory.name}", "offset": 0, "byte_size": 64}
        await rest.RegisterSystemSharedMemory(pb.RestRegionBodyRequest(region="r", body=body(where)), asking)
        for region in ("", "r"):
            shown = said(await rest.SystemSharedMemoryStatus(pb.RestRegionRequest(region=region), asking))
            assert shown == [{"name": "r", **where}]
        memory.buf[:12] = np.array([1, 2, 3], np.float32).tobytes()
        within = {"shared_memory_region": "r", "shared_memory_byte_size": 12}
        request = {
            "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": within}],
            "outputs": [{"name": "y", "parameters": {**within, "shared_memory_offset": 32}}],
        }
        answer = said(await rest.Infer(pb.RestInferRequest(model_name="m", body=body(request)), asking))
        assert answer["outputs"][0]["shape"] == [1, 3]
        assert "data" not in answer["outputs"][0]
        assert bytes(memory.buf[32:44]) == bytes(memory.buf[:12])
        await rest.UnregisterSystemSharedMemory(pb.RestRegionBodyRequest(), asking)
        assert said(await rest.SystemSharedMemoryStatus(pb.RestRegionRequest(), asking)) == []
        with pytest.raises(BodyError, match="byte_size"):
            await rest.RegisterSystemSharedMemory(
                pb.RestRegionBodyRequest(region="r", body=body({"key": "/k"})), asking
            )
    finally:
        made.close()
        memory.close()
        memory.unlink()


async def test_models_are_listed_described_counted_unloaded_and_loaded(shelf, caller, regions):
    repository = await shelf.started()
    await shelf.push(repository)
    rest, asking = serving(repository, regions, shelf.catalogue), Asking()
    model, control = pb.RestModelRequest(model_name="m"), pb.RestControlRequest(model_name="m")
    listed = said(await rest.RepositoryIndex(pb.RestRequest(), asking))
    assert listed == [{"name": "m", "version": "1", "state": "READY", "reason": ""}]
    config = said(await rest.ModelConfig(model, asking))
    assert config["name"] == "m"
    assert [each["name"] for each in config["input"]] == ["x"]
    for answer in (await rest.ModelStatistics(model, asking), await rest.AllStatistics(empty_pb2.Empty(), asking)):
        (counted,) = said(answer)["model_stats"]
        assert (counted["name"], counted["inference_count"]) == ("m", 0)
    await rest.UnloadModel(pb.RestControlRequest(model_name="m", body=body({"parameters": {}})), asking)
    assert said(await rest.RepositoryIndex(pb.RestRequest(body=body({"ready": True})), asking)) == []
    with pytest.raises(ModelNotReadyError):
        await rest.ModelReady(model, asking)
    assert said(await rest.LoadModel(control, asking)) == {}
    assert said(await rest.ModelReady(model, asking)) == {"name": "m", "ready": True}
    for wish, error in (
        ({"parameters": {"config": "{}"}}, NotServedError),
        ({"parameters": {"a": [1]}}, BodyError),
        ([], BodyError),
    ):
        with pytest.raises(error):
            await rest.LoadModel(pb.RestControlRequest(model_name="m", body=body(wish)), asking)


async def test_settings_are_shown_and_stay_as_they_are(caller, regions):
    rest, asking = serving(SimpleNamespace(), regions), Asking()
    traced = said(await rest.TraceSettings(pb.RestModelRequest(), asking))
    assert isinstance(traced["trace_level"], list)
    logged = said(await rest.LogSettings(empty_pb2.Empty(), asking))
    assert isinstance(logged["log_info"], bool)
    assert said(await rest.ChangeTraceSettings(pb.RestControlRequest(), asking)) == traced
    assert said(await rest.ChangeLogSettings(pb.RestRequest(body=body({})), asking)) == logged
    with pytest.raises(NotServedError):
        await rest.ChangeTraceSettings(pb.RestControlRequest(body=body({"trace_rate": "1"})), asking)
    with pytest.raises(NotServedError):
        await rest.ChangeLogSettings(pb.RestRequest(body=body({"log_info": True})), asking)
    assert said(await rest.CudaSharedMemoryStatus(pb.RestRegionRequest(), asking)) == []
    assert said(await rest.UnregisterCudaSharedMemory(pb.RestRegionBodyRequest(), asking)) == {}
    with pytest.raises(EngineError):
        await rest.RegisterCudaSharedMemory(pb.RestRegionBodyRequest(region="r"), asking)
