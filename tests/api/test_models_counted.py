"""A model is recorded and counted under the one name that it has, with the version that answered."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from inference import grpc_service_pb2 as inference
from inference import grpc_service_pb2_grpc as inference_grpc
from tiation.analytics.v1 import metric_pb2, metric_pb2_grpc
from tiation.engine.v1 import prediction_pb2, prediction_pb2_grpc
from tiation.security.v1 import record_pb2, record_pb2_grpc

from mesh.config import AnalyticsSettings, EngineSettings, PriceSettings
from tests.fakes.platform import Platform, platform

SYSTEM = str(Path(__file__).parents[2] / ".models")
BARE = "all-minilm-l6-v2"
NAME = f"tenants/system/models/{BARE}"
VERSION = f"{NAME}/versions/1"
CALLS = 5


@pytest.fixture
async def here(tmp_path):
    settings = {
        "engine": EngineSettings(system_models=SYSTEM),
        "analytics": AnalyticsSettings(prices={NAME: PriceSettings(calls_1k=1000)}),
    }
    async with platform(tmp_path, ("security", "analytics", "engine"), **settings) as made:
        yield made


def tokens(model: str, version: str = "", mask: int = 1) -> inference.ModelInferRequest:
    request = inference.ModelInferRequest(model_name=model, model_version=version)
    for name, value in (("input_ids", 101), ("attention_mask", mask)):
        request.inputs.add(name=name, datatype="INT64", shape=[1, 2]).contents.int64_contents.extend([value] * 2)
    return request


async def ask_in_every_way(here: Platform, authorization) -> None:
    """Five calls that the model answers."""
    metadata = (authorization,)
    async with here.channel("engine") as channel:
        stub = inference_grpc.GRPCInferenceServiceStub(channel)
        await stub.ModelInfer(tokens(BARE), metadata=metadata)
        await stub.ModelInfer(tokens(NAME, "1"), metadata=metadata)
        await stub.ModelMetadata(inference.ModelMetadataRequest(name=BARE), metadata=metadata)
        stream = stub.ModelStreamInfer(iter([tokens(BARE), tokens(NAME), tokens(BARE)]), metadata=metadata)
        assert [each.error_message async for each in stream] == [""] * 3
        embed = prediction_pb2.EmbedRequest(name=NAME, texts=["hello"])
        await prediction_pb2_grpc.PredictionServiceStub(channel).Embed(embed, metadata=metadata)


async def recorded(here: Platform, authorization) -> list[record_pb2.Record]:
    """The engine's records, once all of them are there."""
    request = record_pb2.ListRecordsRequest(parent="tenants/default", page_size=100, service="engine")
    async with here.channel("security") as channel:
        stub = record_pb2_grpc.RecordServiceStub(channel)
        for _ in range(200):
            found = list((await stub.ListRecords(request, metadata=[authorization])).records)
            if len(found) >= CALLS:
                return found
            await asyncio.sleep(0.05)
    return found


async def test_a_model_has_one_name_and_the_version_that_answered_in_records_and_figures(here: Platform):
    operator = await here.token()
    await ask_in_every_way(here, operator)
    records = await recorded(here, operator)
    assert [record.call.resource for record in records] == [VERSION] * CALLS
    assert {record.call.code for record in records} == {0}
    request = metric_pb2.QueryMetricsRequest(
        parent="tenants/default",
        metrics=["calls", "cost"],
        group_by=["model", "model_version"],
        filter='service = "engine"',
    )
    async with here.channel("analytics") as channel:
        stub = metric_pb2_grpc.AnalyticsServiceStub(channel)
        for _ in range(200):
            answer = await stub.QueryMetrics(request, metadata=[operator])
            if answer.totals.values["calls"] >= CALLS:
                break
            await asyncio.sleep(0.05)
    (series,) = answer.series
    assert dict(series.dimensions) == {"model": NAME, "model_version": "1"}
    assert series.totals.values["calls"] == CALLS
    assert series.totals.values["cost"] == CALLS - 1  # a look at its metadata costs nothing
