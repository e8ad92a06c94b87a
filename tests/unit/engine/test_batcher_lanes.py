"""The batcher with a second lane: when it is opened, what goes where, and every future still resolved once."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputRefusedError, ModelNotReadyError
from tests.unit.engine.batchers import Lanes, batcher, until


async def both_idle():
    """A batcher that has opened its second lane, because many waited for slow runs."""
    lanes = Lanes()
    made = batcher(lanes.run, max_waiting=100, open_beside=lanes.open_beside)
    lanes.open.set()
    assert await asyncio.gather(*(made.submit(number, rows=1) for number in range(20))) == [2 * n for n in range(20)]
    await until(lambda: lanes.asked == 1)
    await asyncio.sleep(0.1)
    return lanes, made


async def test_slow_runs_that_others_wait_for_are_computed_two_at_a_time():
    lanes, made = await both_idle()
    lanes.open.clear()
    before = len(lanes.beside)
    first = asyncio.create_task(made.submit(20, rows=1))
    await until(lambda: [20] in lanes.alone)  # with all cores, because nothing else is to be done
    second = asyncio.create_task(made.submit(21, rows=1))
    await until(lambda: lanes.beside[before:] == [[21]])  # while the first one is still under way
    third = asyncio.create_task(made.submit(22, rows=1))
    await asyncio.sleep(0.05)
    assert lanes.beside[before:] == [[21]]  # two, and no more
    lanes.open.set()
    assert await asyncio.gather(first, second, third) == [40, 42, 44]
    assert lanes.asked == 1
    await asyncio.to_thread(made.close)


async def test_what_waits_is_shared_evenly_by_two_runs_at_a_time():
    lanes, made = await both_idle()
    lanes.open_alone = threading.Event()
    lanes.open.clear()
    tasks = [asyncio.create_task(made.submit(100, rows=1))]
    await until(lambda: [100] in lanes.alone)
    tasks.append(asyncio.create_task(made.submit(101, rows=1)))
    await until(lambda: [101] in lanes.beside)
    before = len(lanes.beside)
    tasks += [asyncio.create_task(made.submit(number, rows=1)) for number in range(102, 107)]
    await asyncio.sleep(0)
    lanes.open.set()  # the one beside goes on, while the first is still under way
    await asyncio.gather(*tasks[1:])
    assert [len(batch) for batch in lanes.beside[before:]] == [3, 2]  # of six, then of three
    lanes.open_alone.set()
    assert await tasks[0] == 200
    await asyncio.to_thread(made.close)


async def test_quick_runs_and_those_that_nobody_waits_for_stay_on_one_thread():
    asked = []
    made = batcher(list, max_waiting=100, open_beside=lambda: asked.append("asked"))
    await asyncio.gather(*(made.submit(number, rows=1) for number in range(100)))
    slow = batcher(lambda items: time.sleep(0.02) or list(items), open_beside=lambda: asked.append("asked"))
    for number in range(3):
        await slow.submit(number, rows=1)
    assert asked == []
    for each in (made, slow):
        await asyncio.to_thread(each.close)


async def test_what_cannot_be_computed_beside_is_computed_in_turn():
    lanes, asked = Lanes(), []
    lanes.open.set()
    made = batcher(lanes.run, max_waiting=100, open_beside=lambda: asked.append("asked"))
    for _ in range(2):
        numbers = range(20)
        assert await asyncio.gather(*(made.submit(number, rows=1) for number in numbers)) == [2 * n for n in numbers]
    assert asked == ["asked"]  # and not again
    await asyncio.to_thread(made.close)


async def test_without_another_thread_the_first_one_goes_on(monkeypatch):
    lanes = Lanes()
    lanes.open.set()
    made = batcher(lanes.run, max_waiting=100, open_beside=lanes.open_beside)

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("threading.Thread.start", refuse)
        assert len(await asyncio.gather(*(made.submit(number, rows=1) for number in range(20)))) == 20
    assert (lanes.asked, lanes.beside) == (0, [])
    await asyncio.to_thread(made.close)


async def test_closing_finishes_both_runs_and_what_waits_behind_them():
    lanes, made = await both_idle()
    lanes.open.clear()
    tasks = [asyncio.create_task(made.submit(number, rows=2)) for number in range(6)]
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(asyncio.to_thread(made.close))
    await asyncio.sleep(0.05)
    lanes.open.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10]
    await closing
    with pytest.raises(ModelNotReadyError):
        await made.submit(1, rows=1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["wait", "cancel", "fail"])), min_size=1, max_size=30))
def test_whatever_happens_on_two_threads_everybody_gets_their_own_answer(requests):
    """Whatever is cancelled or fails, everybody else gets the answer to what they asked."""
    threads = set()

    def run(items):
        threads.add(threading.get_ident())
        time.sleep(0.006)
        if any(how == "fail" for _, how in items):
            raise InputRefusedError("no")
        return [number * 2 for number, _ in items]

    async def scenario() -> None:
        made = batcher(run, max_waiting=100, open_beside=lambda: run)
        await asyncio.gather(*(made.submit((number, "wait"), rows=1) for number in range(20)))
        assert len(threads) == 2
        tasks = [
            asyncio.create_task(made.submit((number, how), rows=rows)) for number, (rows, how) in enumerate(requests)
        ]
        await asyncio.sleep(0)
        for task, (_, how) in zip(tasks, requests, strict=True):
            if how == "cancel":
                task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for number, (answer, (_, how)) in enumerate(zip(answers, requests, strict=True)):
            if how == "wait":
                assert answer == number * 2
            elif how == "fail":
                assert isinstance(answer, InputRefusedError)
        await asyncio.to_thread(made.close)

    asyncio.run(scenario())
