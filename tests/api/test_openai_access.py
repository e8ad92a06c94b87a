"""Who may ask which model where paths and bodies name it in other protocols' words: as over gRPC, denials included."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import grpc
import pytest
from google.api import httpbody_pb2
from google.protobuf import empty_pb2
from inference import grpc_service_pb2, grpc_service_pb2_grpc
from tiation.engine.v1 import inference_rest_pb2, inference_rest_pb2_grpc, openai_pb2, openai_pb2_grpc

from mesh.config import EngineSettings
from tests.fakes.answers import refused
from tests.fakes.directory import HOME, directory
from tests.fakes.platform import platform

SYSTEM = str(Path(__file__).parents[2] / ".models")
MINILM = "all-minilm-l6-v2"
EMBED = {"model": MINILM, "input": "hello"}
TENSOR = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["hello"]}


@pytest.fixture
async def engine(tmp_path):
    async with platform(tmp_path, ("security", "engine"), engine=EngineSettings(system_models=SYSTEM)) as made:
        yield made


def body(value: object) -> httpbody_pb2.HttpBody:
    return httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(value).encode())


async def test_a_model_that_is_denied_is_denied_in_every_protocols_words(engine):
    async with directory(engine) as here, engine.channel("engine") as channel:
        ann = await here.user("ann", "admin")
        openai = openai_pb2_grpc.OpenAIServiceStub(channel)
        rest = inference_rest_pb2_grpc.InferenceRestServiceStub(channel)
        oip = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def asked():
            infer = inference_rest_pb2.RestInferRequest(model_name=MINILM, body=body({"inputs": [TENSOR]}))
            tensor = grpc_service_pb2.ModelInferRequest(model_name=MINILM, raw_input_contents=[b"\5\0\0\0hello"])
            tensor.inputs.add(name="text", datatype="BYTES", shape=[1])
            return (
                openai.Embed(openai_pb2.OpenAIRequest(body=body(EMBED)), metadata=(ann,)),
                rest.Infer(infer, metadata=(ann,)),
                oip.ModelInfer(tensor, metadata=(ann,)),
            )

        deadline = time.monotonic() + 10
        while True:
            try:
                await openai.Embed(openai_pb2.OpenAIRequest(body=body(EMBED)), metadata=(ann,))
                break
            except grpc.aio.AioRpcError:
                assert time.monotonic() < deadline, "the engine has not heard of ann"
                await asyncio.sleep(0.05)
        for call in asked():
            await call
        await here.role("asking", "engine.models.infer")
        await here.bind("no-minilm", "own/asking", principal="ann", deny=True, resource=f"{HOME}/models/{MINILM}")
        while True:
            try:
                await openai.Embed(openai_pb2.OpenAIRequest(body=body(EMBED)), metadata=(ann,))
            except grpc.aio.AioRpcError:
                break
            assert time.monotonic() < deadline, "the engine has not heard of the denial"
            await asyncio.sleep(0.05)
        for call in asked():
            await refused(call, grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
        listed = await openai.Models(empty_pb2.Empty(), metadata=(ann,))
        assert MINILM in {model["id"] for model in json.loads(listed.data)["data"]}


async def test_names_of_others_and_names_that_are_none_are_not_found(engine):
    token = await engine.token()
    async with engine.channel("engine") as channel:
        stub = openai_pb2_grpc.OpenAIServiceStub(channel)
        for name in ("tenants/other/models/m", "never-was", "UPPER", "a" * 5000, "tenants/default", "../x", "é", ":"):
            call = stub.Embed(openai_pb2.OpenAIRequest(body=body({**EMBED, "model": name})), metadata=(token,))
            if len(name) > 256:
                await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
            else:
                await refused(call, grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
