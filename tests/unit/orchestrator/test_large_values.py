"""Large values are shown and carried without holding up the loop, and no answer takes more of them than it can."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from google.protobuf.struct_pb2 import ListValue, Value
from tiation.integration.v1 import connection_pb2
from tiation.orchestrator.v1 import run_pb2 as pb

from mesh.errors import TiationError
from mesh.identity import Caller, set_caller
from mesh.pagination import Pages
from orchestrator.adapters import grpc_calls
from orchestrator.conversion import LARGE_BYTES, converted
from orchestrator.errors import InputTooLargeError
from orchestrator.runs import PAGE_BYTES, NewEvent, StepResult
from orchestrator.servicers import runs as servicer_of_runs
from orchestrator.servicers.runs import RunServicer
from orchestrator.values import MAX_VALUE_BYTES, MESSAGE_GROWTH
from tests.unit.orchestrator.test_unknown_outcomes import CONNECT, Integration, calls_to
from tests.unit.orchestrator.workplace import AGENT, ASKER, Workplace

LARGE = [1] * 60_000
"""120 kB of JSON, a tenth of a second to convert."""
RUNS = 40
ASKED = Caller("default", ASKER.subject, "")


@pytest.fixture
async def here(both):
    made = Workplace(both[0])
    await made.bring("do: [{s: {set: {x: 1}}}]")
    return made


@pytest.fixture
def servicer(here):
    return RunServicer(
        here.admission, here.agents, here.database, here.rows, here.executor, here.notices, Pages(b"key")
    )


@pytest.fixture
def threads(monkeypatch):
    """The threads in which values are converted."""
    found = set()

    def noting(name):
        convert = getattr(servicer_of_runs, name)

        def noted(*given):
            found.add(threading.get_ident())
            return convert(*given)

        monkeypatch.setattr(servicer_of_runs, name, noted)

    noting("json_to_value")
    noting("value_to_json")
    return found


async def longest_pause_s(stop):
    """How long the loop stood still at most."""
    longest, last = 0.0, time.monotonic()
    while not stop.is_set():
        await asyncio.sleep(0.005)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    return longest


async def test_pages_are_cut_by_bytes_and_the_loop_goes_on_meanwhile(here, servicer):
    for number in range(RUNS):
        await here.start(LARGE, f"r{number:02}")
    stop = asyncio.Event()
    watching = asyncio.create_task(longest_pause_s(stop))
    names, sizes, token = [], [], ""
    while token or not names:
        asked = pb.ListRunsRequest(parent=AGENT, page_size=1000, page_token=token, order_by="create_time")
        page = await servicer.ListRuns(asked, None)
        names += [run.name.rpartition("/")[2] for run in page.runs]
        sizes.append(len(page.runs))
        token = page.next_page_token
    stop.set()
    assert names == [f"r{number:02}" for number in range(RUNS)]
    assert max(sizes) <= PAGE_BYTES // 120_000
    assert await watching < 1.0


async def test_a_page_holds_one_run_however_large_and_small_ones_as_ever(here, servicer, monkeypatch):
    monkeypatch.setattr("orchestrator.runs.PAGE_BYTES", 1_000)
    monkeypatch.setattr("orchestrator.store.runs.PAGE_BYTES", 1_000)
    for number in range(3):
        await here.start("x" * 5_000, f"a{number}")
    for number in range(3):
        await here.start("x", f"b{number}")
    sizes, token = [], ""
    while token or not sizes:
        asked = pb.ListRunsRequest(parent=AGENT, page_size=2, page_token=token, order_by="create_time")
        page = await servicer.ListRuns(asked, None)
        sizes.append(len(page.runs))
        token = page.next_page_token
    assert sizes == [1, 1, 1, 2, 1]


async def test_one_large_run_is_converted_beside_the_loop(here, servicer, threads):
    given = pb.CreateRunRequest(parent=AGENT, run_id="r1")
    given.run.input.list_value.CopyFrom(ListValue(values=[Value(number_value=1)] * 50_000))
    set_caller(ASKED)
    made = await servicer.CreateRun(given, None)
    found = await servicer.GetRun(pb.GetRunRequest(name=made.name), None)
    assert len(found.input.list_value.values) == 50_000
    assert threads
    assert threading.get_ident() not in threads


async def test_small_values_are_converted_on_the_spot(here, servicer, threads):
    await here.start({"x": 1})
    await servicer.GetRun(pb.GetRunRequest(name=f"{AGENT}/runs/r1"), None)
    assert threads == {threading.get_ident()}


async def test_an_input_that_must_be_too_large_is_refused_before_it_is_converted(here, servicer, threads):
    given = pb.ForkRunRequest(name=f"{AGENT}/runs/r1")
    given.input.string_value = "x" * (MESSAGE_GROWTH * MAX_VALUE_BYTES)
    set_caller(ASKED)
    with pytest.raises(InputTooLargeError):
        await servicer.ForkRun(given, None)
    assert not threads


async def test_large_events_are_read_a_few_at_a_time_and_all_of_them_come(here, servicer, threads):
    run = await here.start()
    now = run.create_time
    (lease,) = await here.database.write(lambda transaction: here.rows.claim(transaction, "me", now, now, 1))
    many = [NewEvent("STEP_SUCCEEDED", "/do/0/s", at, 1, StepResult(["x" * 250_000])) for at in range(40)]
    done = [NewEvent("RUN_SUCCEEDED")]
    await here.database.write(lambda transaction: here.rows.append(transaction, lease, many, now))
    await here.database.write(
        lambda transaction: here.rows.finish(transaction, lease, done, "SUCCEEDED", None, None, now)
    )
    _, _, some = await here.database.read(lambda transaction: here.rows.tail(transaction, run.name, 0, 100))
    assert sum(event.size for event in some) < 2 * PAGE_BYTES
    asked = pb.StreamRunEventsRequest(name=run.name)
    seen = [answer.event.sequence async for answer in servicer.StreamRunEvents(asked, None)]
    assert seen == list(range(1, 44))
    assert threads - {threading.get_ident()}


async def test_a_large_answer_is_converted_beside_the_loop_and_one_that_is_too_large_is_not(monkeypatch):
    class Large(Integration):
        async def Invoke(self, request, context):
            values = [Value(number_value=1)] * 20_000
            return connection_pb2.InvokeResponse(output=Value(list_value=ListValue(values=values)))

    found = []
    convert = grpc_calls.value_to_json
    monkeypatch.setattr(
        grpc_calls, "value_to_json", lambda *given: (found.append(threading.get_ident()), convert(*given))[1]
    )
    async with calls_to(Large(None)) as calls:
        assert await calls.call("connect", CONNECT, "key") == [1] * 20_000
        assert found
        assert found[0] != threading.get_ident()
        found.clear()
        monkeypatch.setattr(grpc_calls, "_LARGEST_ANSWER", 100_000)
        with pytest.raises(TiationError) as caught:
            await calls.call("connect", CONNECT, "key")
    assert caught.value.reason == "RESULT_TOO_LARGE"
    assert not found


async def test_only_large_conversions_go_to_a_thread():
    assert await converted(LARGE_BYTES, threading.get_ident) == threading.get_ident()
    assert await converted(LARGE_BYTES + 1, threading.get_ident) != threading.get_ident()
