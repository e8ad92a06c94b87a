"""What users of other inference servers complain about, each complaint with the test that it does not hold here.

The numbers are of issues: triton server and its onnxruntime_backend, MLServer, BentoML, OVMS, KServe. `ELSEWHERE` names
the tests that stand with what they test; the others are here.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from inference import grpc_service_pb2 as pb

from engine.oip.control import RepositoryControl
from engine.oip.shared_memory import Regions
from engine.runtime.sessions import SessionSettings, open_session, release_memory
from engine.servicers.inference import InferenceServicer
from engine.servicers.inference_facts import Facts
from mesh.identity import Caller, set_caller
from tests.unit.engine.graphs import doubling, heavy, opened
from tests.unit.engine.shelf import MODEL, Shelf

HERE = Path(__file__).parent
MANIFEST = "name: m\nkind: onnx\n"
ROW = {"x": np.ones((1, 2), np.float32)}

ELSEWHERE = {
    "onnxruntime_backend 245: the CPU computes in silence": (
        "test_device.py", "test_a_runtime_that_took_the_cpu_instead_is_refused",
    ),
    "onnxruntime_backend 116, 265: threads that get in each other's way": (
        "test_core_budget.py", "test_runs_on_all_cores_take_turns",
    ),
    "server 3395, 8156: only identical shapes share a batch": (
        "test_padding.py", "test_requests_of_different_length_share_a_run_and_come_back_as_alone",
    ),
    "server 3320, 3583: an unload keeps its memory": (
        "test_memory_budget.py", "test_memory_of_what_is_unloaded_is_given_back",
    ),
    "server 4188: loads and unloads that race": (
        "test_versions.py", "test_two_loads_and_an_unload_that_race_end_as_one_after_the_other",
    ),
    "server 4422: a reload during which nobody is answered": (
        "test_versions.py", "test_a_call_under_way_finishes_on_the_version_that_it_found",
    ),
    "server 7462: a batch dimension that is written down wrongly": (
        "test_onnx_models.py", "test_a_fixed_batch_is_filled_up_and_several_are_run",
    ),
    "server 1338: a graph without one is refused": (
        "test_onnx_models.py", "test_whether_rows_may_share_a_run_is_tried",
    ),
    "server 5106, 8558: where the time went, by answer": (
        "test_oip_facts.py", "test_an_answer_says_where_its_time_went_when_it_is_asked_to",
    ),
    "server 5106, 8558: where the time went, in all": (
        "test_statistics.py", "test_a_request_that_was_answered_counts_with_the_times_of_its_run",
    ),
    "MLServer 1306, 1652, 1046: a cancelled member hangs its mates, wrong parts, lost futures": (
        "test_request_ends.py", "test_however_requests_end_their_mates_get_their_own_answers",
    ),
    "BentoML 3710: a batch above its maximum": (
        "test_batcher.py", "test_every_request_is_answered_once_and_no_batch_is_too_large",
    ),
    "BentoML 3200: busy, without a word of when to come back": (
        "test_request_ends.py", "test_one_that_finds_no_place_is_told_when_there_will_be_one",
    ),
    "BentoML 5637: no metric says why a batch went": (
        "test_statistics.py", "test_batches_are_told_apart_by_their_rows_and_by_why_they_went",
    ),
}  # fmt: skip


@pytest.mark.parametrize("complaint", ELSEWHERE)
def test_the_complaint_has_its_test(complaint: str):
    file, name = ELSEWHERE[complaint]
    assert f"def {name}(" in (HERE / file).read_text()


@pytest.fixture
async def servicer(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository, content=heavy(24))
    set_caller(Caller("t", "tenants/t/principals/p", "spiffe://tiation.local/svc/gateway"))
    facts = Facts("cpu", "warning", traced=False, sample_ratio=0.0)
    yield InferenceServicer(repository, RepositoryControl(repository, shelf.catalogue), Regions("off"), facts)
    set_caller(None)


class Call:
    """A call without headers."""

    def invocation_metadata(self):
        return ()


def asking(at: int) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="m", id=str(at), raw_input_contents=[np.full(2, at, "<f4").tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    return request


async def runs(servicer: InferenceServicer) -> tuple[int, int]:
    """How many rows were computed, and in how many runs."""
    (one,) = (await servicer.ModelStatistics(pb.ModelStatisticsRequest(name="m"), None)).model_stats
    return one.inference_count, one.execution_count


async def test_kserve_2865_requests_over_grpc_share_runs(servicer: InferenceServicer):
    rows, executions = await runs(servicer)
    answers = await asyncio.gather(*(servicer.ModelInfer(asking(at), Call()) for at in range(32)))
    assert [answer.id for answer in answers] == [str(at) for at in range(32)]
    now, executed = await runs(servicer)
    assert now - rows == 32
    assert executed - executions <= 16


async def test_mlserver_1911_requests_of_streams_share_runs_with_each_other_and_with_plain_ones(
    servicer: InferenceServicer,
):
    async def requests(of: int):
        for at in range(8):
            yield asking(100 * of + at)

    async def stream(of: int) -> list[str]:
        found = [answer async for answer in servicer.ModelStreamInfer(requests(of), Call())]
        assert not any(answer.error_message for answer in found)
        return [answer.infer_response.id for answer in found]

    rows, executions = await runs(servicer)
    plain = [servicer.ModelInfer(asking(at), Call()) for at in range(8)]
    *streams, one, _ = await asyncio.gather(stream(1), stream(2), stream(3), *plain[:1], asyncio.gather(*plain[1:]))
    assert streams == [[str(100 * of + at) for at in range(8)] for of in (1, 2, 3)]
    assert one.id == "0"
    now, executed = await runs(servicer)
    assert now - rows == 32
    assert executed - executions <= 16


async def test_onnxruntime_backend_34_a_request_alone_takes_about_as_long_as_the_runtime_alone(tmp_path: Path):
    made = opened(tmp_path, MANIFEST, model=heavy(24))
    session = open_session(tmp_path / "model.onnx", SessionSettings())
    alone, ours = [], []
    for _ in range(40):
        began = time.perf_counter()
        await asyncio.to_thread(session.run, ROW)
        alone.append(time.perf_counter() - began)
        began = time.perf_counter()
        await made.infer(ROW)
        ours.append(time.perf_counter() - began)
    session.close()
    made.close()
    assert statistics.median(ours) < 1.5 * statistics.median(alone) + 0.001


async def test_server_4422_a_reload_takes_about_as_long_as_the_file_takes_to_open(shelf: Shelf):
    repository = await shelf.started()
    await shelf.push(repository, content=heavy(24))
    path = next((shelf.root / "models" / "t" / "m").rglob("model.onnx"))

    async def took(work) -> float:
        began = time.perf_counter()
        await work()
        return time.perf_counter() - began

    async def bare() -> None:
        (await asyncio.to_thread(open_session, path, SessionSettings())).close()

    async def reload() -> None:
        await repository.lifecycle.unload(f"{MODEL}/versions/1")
        await repository.lifecycle.load(f"{MODEL}/versions/1")

    bare_s = min([await took(bare) for _ in range(3)])
    reload_s = min([await took(reload) for _ in range(3)])
    assert reload_s < 5 * bare_s + 0.5


async def test_ovms_2102_memory_does_not_creep_with_requests_of_ever_new_shapes(tmp_path: Path):
    made = opened(tmp_path, MANIFEST, model=doubling(["n", "m"]))
    resident = psutil.Process().memory_info
    random = np.random.default_rng(3)

    async def many(count: int) -> None:
        for _ in range(count):
            tensor = np.zeros((int(random.integers(1, 8)), int(random.integers(1, 4000))), np.float32)
            await made.infer({"x": tensor})

    await many(1500)
    release_memory()
    warm = resident().rss
    await many(3000)
    release_memory()
    assert resident().rss - warm < 16 << 20
    made.close()
