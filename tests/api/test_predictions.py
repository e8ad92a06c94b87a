"""PredictionService over the mesh: users come through the gateway, agents through the orchestrator."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc
import pytest
from inference import grpc_service_pb2, grpc_service_pb2_grpc
from tiation.engine.v1 import prediction_pb2 as pb
from tiation.engine.v1 import prediction_pb2_grpc
from tiation.security.v1 import record_pb2, record_pb2_grpc

from mesh.channel import Channels
from mesh.config import EngineSettings
from mesh.identity import Requester
from mesh.svid import SvidSource
from tests.fakes.answers import refused
from tests.fakes.drawings import file_of, written
from tests.fakes.platform import Platform, platform

SYSTEM = str(Path(__file__).parents[2] / ".models")
DIGITS = pb.ClassifyRequest(name="tenants/system/models/digits", images=[file_of(written(3))])
EMBED = pb.EmbedRequest(name="tenants/system/models/all-minilm-l6-v2", texts=["hello"])
OPERATOR = "tenants/system/principals/operator"
AGENT = "tenants/default/agents/a"


@pytest.fixture
async def engine(tmp_path):
    async with platform(tmp_path, ("security", "engine"), engine=EngineSettings(system_models=SYSTEM)) as made:
        yield made


def channels_of(made: Platform, workload: str) -> Channels:
    """A workload's own channels, with its certificate."""
    made.lay_svid(workload)
    svid = SvidSource(made.home / workload / "svid.json")
    return Channels(workload, made.settings.trust_domain, made.settings.services, svid)


async def test_the_orchestrator_asks_on_behalf_of_a_user_and_nobody_else_does(engine: Platform):
    on_behalf_of = Requester("default", OPERATOR, AGENT, f"{AGENT}/runs/r", "")
    nobody = Requester("default", "tenants/default/principals/nobody", AGENT, f"{AGENT}/runs/r", "")
    channels = channels_of(engine, "orchestrator")
    others = channels_of(engine, "integration")
    try:
        stub = channels.stub(prediction_pb2_grpc.PredictionServiceStub, "engine")
        metadata = channels.on_behalf("engine", on_behalf_of)
        assert (await stub.Classify(DIGITS, metadata=metadata)).classifications[0].label == "3"
        assert len((await stub.Embed(EMBED, metadata=metadata)).embeddings[0].values) == 384
        denied = stub.Classify(DIGITS, metadata=channels.on_behalf("engine", nobody))
        await refused(denied, grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
        stub = others.stub(prediction_pb2_grpc.PredictionServiceStub, "engine")
        passed_on = stub.Classify(DIGITS, metadata=others.on_behalf("engine", on_behalf_of))
        await refused(passed_on, grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")
    finally:
        await channels.close()
        await others.close()


async def test_reasons_are_for_programs(engine: Platform):
    token = await engine.token()
    async with engine.channel("engine") as channel:
        stub = prediction_pb2_grpc.PredictionServiceStub(channel)
        wrong = {
            "ELEMENT_INVALID": pb.ClassifyRequest(name=DIGITS.name, images=[b"GIF89a"]),
            "ITEMS_INVALID": pb.ClassifyRequest(name=DIGITS.name, texts=["a"]),
            "REQUEST_INVALID": pb.ClassifyRequest(name=DIGITS.name, top_k=-1),
            "INVALID_FIELD": pb.ClassifyRequest(name="digits", images=[b"x"]),
        }
        for reason, request in wrong.items():
            await refused(stub.Classify(request, metadata=(token,)), grpc.StatusCode.INVALID_ARGUMENT, reason)
        kind = stub.Embed(pb.EmbedRequest(name=DIGITS.name, texts=["a"]), metadata=(token,))
        await refused(kind, grpc.StatusCode.FAILED_PRECONDITION, "MODEL_KIND_UNSUITABLE")
        late = stub.Classify(pb.ClassifyRequest(name=DIGITS.name, version=7, images=[b"x"]), metadata=(token,))
        await refused(late, grpc.StatusCode.NOT_FOUND, "MODEL_VERSION_NOT_FOUND")
        large = pb.ClassifyRequest(name=DIGITS.name, images=[DIGITS.images[0]] * 3, top_k=2_000_000_000)
        answer = await stub.Classify(large, metadata=(token,))
        assert [len(each.scores) for each in answer.classifications] == [10] * 3
        many = await stub.Embed(pb.EmbedRequest(name=EMBED.name, texts=["hello"] * 300), metadata=(token,))
        assert len(many.embeddings) == 300


async def test_typed_contents_in_the_wrong_field_or_number_are_said_by_name(engine: Platform):
    token = await engine.token()
    async with engine.channel("engine") as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for contents, datatype, shape, words in (
            (
                {"int_contents": [1, 2]},
                "INT64",
                [1, 2],
                "travels in `int64_contents`, and `int_contents` was sent",
            ),
            ({"int64_contents": [1, 2], "fp32_contents": [1]}, "INT64", [1, 2], "and `fp32_contents` was sent"),
            ({"int64_contents": [1]}, "INT64", [1, 2], "holds 2 elements, 1 were sent"),
            ({"int64_contents": [1, 2]}, "INT64", [-1, 2], "a length is never negative"),
            ({"int64_contents": [1, 2]}, "INT64", [2], "wants shape [-1, -1] (-1 is any length), [2] was sent"),
            ({"fp32_contents": [1, 2]}, "FP32", [1, 2], "wants INT64, FP32 was sent"),
            ({"fp32_contents": [1, 2]}, "FP16", [1, 2], "send it in raw_input_contents"),
        ):
            request = grpc_service_pb2.ModelInferRequest(model_name="all-minilm-l6-v2")
            request.inputs.add(name="input_ids", datatype=datatype, shape=shape, contents=contents)
            request.inputs.add(name="attention_mask", datatype="INT64", shape=[1, 2]).contents.int64_contents[:] = [
                1,
                1,
            ]
            error = await refused(
                stub.ModelInfer(request, metadata=(token,)), grpc.StatusCode.INVALID_ARGUMENT, "TENSOR_INVALID"
            )
            assert words in error.details()


@pytest.mark.parametrize("name", ["tenants/default/models/" + "/" * 100_000, "a" * 3_000_000, "UPPER", "a/b", ""])
async def test_a_made_up_name_of_a_model_costs_nothing_and_is_not_recorded(engine: Platform, name):
    token = await engine.token()
    async with engine.channel("engine") as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        began = time.monotonic()
        call = stub.ModelInfer(grpc_service_pb2.ModelInferRequest(model_name=name), metadata=(token,))
        await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert time.monotonic() - began < 1.0
        records = record_pb2_grpc.RecordServiceStub(engine.channel("security"))
        request = record_pb2.ListRecordsRequest(parent="tenants/default", outcome="INVALID_ARGUMENT")
        async with asyncio.timeout(5):
            while not (found := (await records.ListRecords(request, metadata=(token,))).records):
                await asyncio.sleep(0.05)
        assert found[0].call.resource == ""


async def test_a_client_that_leaves_while_an_answer_is_on_its_way_is_no_fault_of_ours(engine: Platform, caplog):
    token = await engine.token()
    small = {"http2.bdp_probe": 0}  # the connection holds 64 kB for one who does not read, and no more
    async with engine.channel("engine", **small) as channel:
        stream = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(metadata=(token,))
        request = grpc_service_pb2.ModelInferRequest(model_name="all-minilm-l6-v2")
        texts = request.inputs.add(name="text", datatype="BYTES", shape=[64])
        texts.contents.bytes_contents.extend([b"a"] * 64)
        for _ in range(4):  # of 98 kB each is the answer
            await stream.write(request)
        await asyncio.sleep(2.0)
        stream.cancel()
        records = record_pb2_grpc.RecordServiceStub(engine.channel("security"))
        wanted = record_pb2.ListRecordsRequest(parent="tenants/default", service="engine")
        async with asyncio.timeout(10):
            while not (found := (await records.ListRecords(wanted, metadata=(token,))).records):
                await asyncio.sleep(0.05)
    assert [(record.call.code, record.call.reason) for record in found] == [(1, "CALL_CANCELLED")]
    assert "call failed" not in caplog.text
    assert "never retrieved" not in caplog.text
