"""An engine with a real Redis: answers outlive it, and a Redis that is killed takes none of them along."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from inference import grpc_service_pb2 as inference
from inference import grpc_service_pb2_grpc as inference_grpc

from mesh.config import EngineSettings
from tests.fakes.platform import Platform, platform
from tests.fakes.redis import Redis, redis_server
from tests.unit.engine.graphs import doubling, folder


@pytest.fixture
def redis() -> Iterator[Redis]:
    with redis_server() as server:
        yield server


async def ask(here: Platform, authorization: tuple[str, str], value: float) -> list[float]:
    """What the model makes of a number."""
    request = inference.ModelInferRequest(model_name="keeper")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([value, 0])
    async with here.channel("engine") as channel:
        answer = await inference_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, metadata=[authorization])
    return np.frombuffer(answer.raw_output_contents[0], np.float32).tolist()


async def figure(here: Platform, name: str) -> float:
    """A figure of the engine's; 0 where it has none of that name."""
    async with httpx.AsyncClient() as client:
        port = here.settings.services["engine"].metrics_port
        page = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(name))


async def test_answers_outlive_the_engine_and_are_computed_where_redis_is_gone(tmp_path, redis: Redis):
    folder(tmp_path / "system" / "keeper" / "1", "name: keeper\nkind: onnx\nresponse_cache: true\n",
           model=doubling(["n", 2]))  # fmt: skip
    settings = EngineSettings(system_models=str(tmp_path / "system"), cache_redis=redis.url)
    home = tmp_path / "home"
    home.mkdir()
    async with platform(home, ("security", "engine"), engine=settings) as here:
        operator = await here.token()
        assert await ask(here, operator, 1) == [2, 0]
        await here.stop("engine")
        await here.start("engine")
        assert await ask(here, operator, 1) == [2, 0]
        assert await figure(here, "nv_cache_num_hits_per_model") == 1
        assert await figure(here, "nv_inference_exec_count") == 0
        redis.kill()
        began = time.perf_counter()
        for _ in range(10):
            assert await ask(here, operator, 1) == [2, 0]
        assert time.perf_counter() - began < 3
        assert await figure(here, "nv_inference_exec_count") == 10
        assert await figure(here, "tiation_cache_unkept_total") >= 3
