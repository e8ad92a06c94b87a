"""The batcher: full batches without delay, nobody hurt by a mate, every future resolved once."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from engine.errors import InferenceFailedError, InputRefusedError, ModelNotReadyError, QueueFullError
from engine.metrics import EngineMetrics
from mesh.tracing import TraceContext, current_trace
from tests.unit.engine.batchers import Gate, batcher


async def test_an_idle_model_runs_at_once_and_alone():
    gate = Gate()
    gate.open.set()
    made = batcher(gate.run)
    assert await made.submit(21, rows=1) == 42
    assert gate.batches == [[21]]
    made.close()


async def test_what_waits_while_a_run_is_in_flight_goes_together_up_to_the_limit():
    gate = Gate()
    made = batcher(gate.run)
    first = asyncio.create_task(made.submit(0, rows=1))
    await asyncio.to_thread(gate.entered.wait, 5)
    rest = [asyncio.create_task(made.submit(number, rows=1)) for number in range(1, 7)]
    await asyncio.sleep(0.05)
    gate.open.set()
    assert await asyncio.gather(first, *rest) == [number * 2 for number in range(7)]
    assert gate.batches == [[0], [1, 2, 3, 4], [5, 6]]
    made.close()


async def test_only_equal_keys_share_a_run_and_order_within_a_key_holds():
    gate = Gate()
    made = batcher(gate.run)
    first = asyncio.create_task(made.submit(0, rows=1))
    await asyncio.to_thread(gate.entered.wait, 5)
    rest = [asyncio.create_task(made.submit(number, rows=1, key=number % 2)) for number in range(1, 6)]
    await asyncio.sleep(0.05)
    gate.open.set()
    await asyncio.gather(first, *rest)
    assert gate.batches == [[0], [1, 3, 5], [2, 4]]
    made.close()


async def test_a_cancelled_member_leaves_its_mates_alone():
    gate = Gate()
    made = batcher(gate.run)
    first = asyncio.create_task(made.submit(0, rows=1))
    await asyncio.to_thread(gate.entered.wait, 5)
    rest = [asyncio.create_task(made.submit(number, rows=1)) for number in range(1, 5)]
    await asyncio.sleep(0.05)
    rest[1].cancel()
    await asyncio.sleep(0)
    gate.open.set()
    results = await asyncio.gather(first, *rest, return_exceptions=True)
    assert isinstance(results[2], asyncio.CancelledError)
    assert [results[0], results[1], *results[3:]] == [0, 2, 6, 8]
    made.close()


async def test_one_bad_request_fails_alone():
    def run(items):
        if 13 in items:
            raise InputRefusedError("unlucky")
        return [item * 2 for item in items]

    gate = threading.Event()
    made = batcher(lambda items: (gate.wait(5), run(items))[1])
    tasks = [asyncio.create_task(made.submit(number, rows=1)) for number in (1, 12, 13, 14)]
    await asyncio.sleep(0.05)
    gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[:2] == [2, 24]
    assert isinstance(results[2], InputRefusedError)
    assert results[3] == 28
    made.close()


async def test_a_full_queue_is_said_and_a_mistake_of_the_model_has_no_text():
    gate = Gate()
    made = batcher(gate.run, max_waiting=2)
    tasks = [asyncio.create_task(made.submit(0, rows=1))]
    await asyncio.to_thread(gate.entered.wait, 5)
    tasks += [asyncio.create_task(made.submit(number, rows=1)) for number in (1, 2)]
    await asyncio.sleep(0.02)
    with pytest.raises(QueueFullError):
        await made.submit(3, rows=1)
    gate.open.set()
    await asyncio.gather(*tasks)
    made.close()
    with pytest.raises(ModelNotReadyError):
        await made.submit(4, rows=1)

    def broken(_items):
        raise KeyError("secret")

    other = batcher(broken)
    with pytest.raises(InferenceFailedError) as caught:
        await other.submit(1, rows=1)
    assert "secret" not in str(caught.value)
    other.close()


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.integers(1, 6), min_size=1, max_size=40), keys=st.integers(1, 3))
def test_every_request_is_answered_once_and_no_batch_is_too_large(rows, keys):
    sizes: list[int] = []

    def run(items):
        sizes.append(sum(count for _, count in items))
        assert len(items) == 1 or sizes[-1] <= 4
        return [number for number, _ in items]

    async def main() -> None:
        made = batcher(run, max_waiting=1000)
        work = (made.submit((at, count), rows=count, key=at % keys) for at, count in enumerate(rows))
        assert await asyncio.gather(*work) == list(range(len(rows)))
        await asyncio.to_thread(made.close)

    asyncio.run(main())
    assert sum(sizes) == sum(rows)


async def test_each_sampled_request_leaves_a_span_of_the_run_that_it_was_in():
    gate, spans = Gate(), []
    figures = EngineMetrics(CollectorRegistry(), spans.append).of("tenants/t/models/m", 3)
    made = batcher(gate.run, observer=figures)

    async def ask(number, sampled):
        current_trace.set(TraceContext(f"{number:032x}", f"{number:016x}", sampled))
        return await made.submit(number, rows=2)

    first = asyncio.create_task(ask(1, sampled=False))
    await asyncio.to_thread(gate.entered.wait, 5)
    rest = [asyncio.create_task(ask(number, sampled=number != 3)) for number in (2, 3)]
    await asyncio.sleep(0.05)
    gate.open.set()
    await asyncio.gather(first, *rest)
    made.close()
    (span,) = spans
    assert (span.name, span.kind, span.context.trace_id, span.parent) == ("batch", "internal", f"{2:032x}", f"{2:016x}")
    assert span.attributes["tiation.batch.requests"] == 2
    assert span.attributes["tiation.batch.rows"] == 4
    assert span.attributes["tiation.batch.waited_us"] >= 40_000
    assert span.start_ns <= span.end_ns


async def test_of_a_failed_batch_nobody_is_run_again_whose_caller_has_gone():
    gate, together = Gate(), Gate()

    def run(items):
        if len(items) == 1:
            return gate.run(items)
        together.run(items)
        raise InferenceFailedError("not together")

    made = batcher(run)
    first = asyncio.create_task(made.submit(0, rows=1))
    await asyncio.to_thread(gate.entered.wait, 5)
    goes, stays = (asyncio.create_task(made.submit(number, rows=1)) for number in (1, 2))
    await asyncio.sleep(0)
    gate.open.set()
    await first
    await asyncio.to_thread(together.entered.wait, 5)
    goes.cancel()
    await asyncio.sleep(0)
    together.open.set()
    assert await stays == 4
    assert (together.batches, gate.batches) == ([[1, 2]], [[0], [2]])
    made.close()


async def test_a_run_whose_caller_has_gone_is_not_waited_for_when_the_batcher_closes():
    gate = Gate()
    made = batcher(gate.run)
    asked = asyncio.create_task(made.submit(0, rows=1))
    await asyncio.to_thread(gate.entered.wait, 5)
    asked.cancel()
    await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.to_thread(made.close), 5)
    assert gate.batches == []
    gate.open.set()


async def test_a_request_in_pieces_that_does_not_come_to_its_end_is_waited_for_so_long_and_no_longer(monkeypatch):
    monkeypatch.setattr("engine.scheduler.batcher._CLOSE_S", 0.3)
    gate = Gate()
    gate.open.set()
    made = batcher(gate.run)
    with made.begun():
        await asyncio.wait_for(asyncio.to_thread(made.close), 5)
        with pytest.raises(ModelNotReadyError):
            await made.submit(0, rows=1)


async def test_a_request_that_fails_is_not_held_by_its_error():
    def fail(_):
        raise InputRefusedError("no")

    made = batcher(fail)
    gc.disable()
    try:
        item = Gate()
        held = weakref.ref(item)
        with pytest.raises(InputRefusedError):
            await made.submit(item, rows=1)
        with pytest.raises(InputRefusedError):
            await made.submit(Gate(), rows=1)  # the thread lets go of the batch before
        del item
        await asyncio.sleep(0)
        assert held() is None
    finally:
        gc.enable()
    await asyncio.to_thread(made.close)
