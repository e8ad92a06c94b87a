"""How a request ends: answered, refused, late, cancelled, failed, or with the model; always once, and alone."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import (
    InferenceFailedError,
    InputRefusedError,
    ModelNotReadyError,
    QueueFullError,
    QueueTimeoutError,
)
from engine.scheduler.batcher import Batcher
from engine.scheduler.policy import BatchPolicy, Level
from engine.scheduler.run import Runner
from engine.scheduler.terms import Terms
from tests.unit.engine.batchers import Gate, batcher, until


async def started(gate, made):
    """A request whose run is under way."""
    first = asyncio.create_task(made.submit(0, rows=1))
    await asyncio.to_thread(gate.entered.wait, 5)
    return first


async def test_a_request_is_late_exactly_when_its_time_is_over_and_not_once_the_run_before_it_ends():
    gate = Gate()
    made = batcher(gate.run)
    first = await started(gate, made)
    began = time.perf_counter()
    with pytest.raises(QueueTimeoutError, match="waited for 50 ms"):
        await made.submit(1, rows=1, terms=Terms(timeout_s=0.05))
    assert 0.045 <= time.perf_counter() - began < 5  # the run before it would take ten
    assert made.waiting == 0
    gate.open.set()
    assert await first == 0
    await asyncio.to_thread(made.close)
    assert gate.batches == [[0]]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1e-6, "1 µs"), (250e-6, "250 µs"), (1e-3, "1 ms"), (0.0305, "30.5 ms"), (1.0, "1 s"), (90.5, "90.5 s")],
)
def test_how_long_a_request_waited_is_said_in_a_unit_that_fits(seconds, words):
    assert f"waited for {words} for the model" in QueueTimeoutError(seconds).message


async def test_what_has_begun_in_time_is_answered_however_long_it_takes():
    made = batcher(lambda items: (time.sleep(0.1), items)[1])
    assert await made.submit(7, rows=1, terms=Terms(timeout_s=0.02)) == 7
    await asyncio.to_thread(made.close)


async def test_the_model_and_the_level_say_how_long_where_the_request_does_not():
    gate = Gate()
    made = batcher(gate.run, timeout_s=0.02, levels=(Level(), Level(timeout_s=0.04)))
    first = await started(gate, made)
    for terms, within in ((Terms(), 20), (Terms(priority=2), 40), (Terms(priority=2, timeout_s=0.03), 30)):
        with pytest.raises(QueueTimeoutError, match=f"for {within} ms"):
            await made.submit(1, rows=1, terms=terms)
    gate.open.set()
    await first
    await asyncio.to_thread(made.close)


async def test_one_that_finds_no_place_is_told_when_there_will_be_one():
    made = batcher(lambda items: (time.sleep(0.1), items)[1], max_rows=1, max_waiting=4)
    await made.submit(0, rows=1)
    tasks = [asyncio.create_task(made.submit(1, rows=1))]
    await asyncio.sleep(0)
    await until(lambda: made.waiting == 0)
    tasks += [asyncio.create_task(made.submit(number, rows=1)) for number in range(2, 6)]
    await until(lambda: made.waiting == 4)
    with pytest.raises(QueueFullError) as caught:
        await made.submit(9, rows=1)
    assert 0.2 <= caught.value.retry_after_s <= 10
    await asyncio.gather(*tasks)
    await asyncio.to_thread(made.close)


async def test_urgent_requests_go_first_and_owners_take_turns():
    gate = Gate()
    made = batcher(gate.run, max_rows=1, max_waiting=100, levels=(Level(), Level()), default_level=2)
    first = await started(gate, made)
    tasks = [
        asyncio.create_task(made.submit(number, rows=1, terms=terms))
        for number, terms in enumerate(
            [Terms("a"), Terms("a"), Terms("a"), Terms("b"), Terms("b", priority=1), Terms("c", priority=99)], 1
        )
    ]
    await until(lambda: made.waiting == 6)
    gate.open.set()
    await asyncio.gather(first, *tasks)
    assert [number for (number,) in gate.batches] == [0, 5, 1, 4, 6, 2, 3]
    await asyncio.to_thread(made.close)


async def test_a_request_that_is_cancelled_while_it_waits_gives_its_place_back_at_once():
    gate = Gate()
    made = batcher(gate.run, max_waiting=1)
    first = await started(gate, made)
    for _ in range(3):
        waits = asyncio.create_task(made.submit(1, rows=1))
        await until(lambda: made.waiting == 1)
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        assert made.waiting == 0
    gate.open.set()
    await first
    await asyncio.to_thread(made.close)


async def test_while_cores_are_waited_for_whoever_asks_goes_along():
    gate, turn = Gate(), threading.Lock()
    gate.open.set()
    made = Batcher(Runner(gate.run, turn), name="test", policy=BatchPolicy(4, 8))
    with turn:
        first = asyncio.create_task(made.submit(0, rows=1))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(made.submit(1, rows=1))
        await until(lambda: made.waiting == 2)
    assert await asyncio.gather(first, second) == [0, 2]
    assert gate.batches == [[0, 1]]
    await asyncio.to_thread(made.close)


async def test_a_run_is_ended_once_all_who_are_in_it_have_gone_and_no_other_is():
    gates: list[Gate] = [Gate() for _ in range(2)]
    ended: list[Gate] = []
    runners = [Runner(gate.run, abandon=lambda _, gate=gate: ended.append(gate)) for gate in gates]
    made = Batcher(runners[0], beside=runners[1:], name="test", policy=BatchPolicy(2, 8, max_delay_s=0.1))
    tasks = [asyncio.create_task(made.submit(number, rows=1)) for number in range(4)]
    for gate in gates:
        await asyncio.to_thread(gate.entered.wait, 5)
    for task, found in zip(tasks, (0, 1), strict=False):
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(ended) == found
    for gate in gates:
        gate.open.set()
    assert await asyncio.gather(*tasks[2:]) == [4, 6]
    await asyncio.to_thread(made.close)
    assert [gate.batches for gate in ended] == [[[0, 1]]]


async def test_several_runners_take_from_one_queue():
    gates = [Gate() for _ in range(3)]
    runners = [Runner(gate.run) for gate in gates]
    made = Batcher(runners[0], beside=runners[1:], name="test", policy=BatchPolicy(1, 8))
    tasks = [asyncio.create_task(made.submit(number, rows=1)) for number in range(3)]
    for gate in gates:
        await asyncio.to_thread(gate.entered.wait, 5)
    for gate in gates:
        gate.open.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4]
    assert sorted(batch for gate in gates for batch in gate.batches) == [[0], [1], [2]]
    await asyncio.to_thread(made.close)


ENDS = ["wait", "cancel", "late", "refused", "crash", "exit"]
REQUEST = st.tuples(st.integers(1, 3), st.sampled_from(ENDS), st.sampled_from("ab"), st.integers(1, 2))
CLOSE = st.none() | st.integers(0, 30)


def ending(items):
    """A run that ends as the first of its items says that is not content to wait."""
    time.sleep(0.001)
    for _, how in items:
        if how == "refused":
            raise InputRefusedError("no")
        if how == "crash":
            raise MemoryError
        if how == "exit":
            raise SystemExit(1)
    return [number * 2 for number, _ in items]


def check(number, how, answer, *, closes):
    if closes and isinstance(answer, ModelNotReadyError):
        return
    if how == "wait":
        assert answer == number * 2
    elif how == "late":  # it may have been taken at once
        assert answer == number * 2 or isinstance(answer, QueueTimeoutError)
    else:
        ends = {"cancel": asyncio.CancelledError, "refused": InputRefusedError}
        assert isinstance(answer, ends.get(how, InferenceFailedError))


@settings(max_examples=60, deadline=None)
@given(st.lists(REQUEST, min_size=1, max_size=30), st.integers(1, 3), CLOSE, st.sampled_from([0.0, 0.002]))
def test_however_requests_end_their_mates_get_their_own_answers(requests, runners, closes_at, delay_s):
    """Cancelled, late, refused by the model, with a model that crashes or that is closed in between."""

    async def scenario() -> None:
        policy = BatchPolicy(4, 1000, max_delay_s=delay_s, levels=(Level(), Level()))
        made = Batcher(ending, name="test", policy=policy, beside=[Runner(ending)] * (runners - 1))
        tasks, closing = [], None
        for number, (rows, how, owner, priority) in enumerate(requests):
            if number == closes_at:
                closing = asyncio.create_task(asyncio.to_thread(made.close))
            terms = Terms(owner, priority, 1e-9 if how == "late" else 0.0)
            tasks.append(asyncio.create_task(made.submit((number, how), rows=rows, terms=terms)))
            await asyncio.sleep(0)
            if how == "cancel":
                tasks[-1].cancel()
        async with asyncio.timeout(20):
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        for number, (answer, (_, how, *_)) in enumerate(zip(answers, requests, strict=True)):
            check(number, how, answer, closes=closes_at is not None)
        assert made.waiting == 0
        await (closing or asyncio.to_thread(made.close))

    asyncio.run(scenario())


class Placed:
    """A run that remembers on which thread it was made."""

    def __init__(self) -> None:
        self.threads: list[str] = []
        self.sleep_s = 0.0

    def run(self, items):
        self.threads.append(threading.current_thread().name)
        time.sleep(self.sleep_s)
        return [item * 2 for item in items]

    async def tried(self, made, rows=1, size=10) -> None:
        """Ask one after the other until it is known how quick the model is."""
        for number in range(400):
            assert await made.submit(number, rows=rows, size=size) == number * 2
            if self.threads[-1] == threading.current_thread().name:
                return


async def test_a_model_that_was_seen_to_be_quick_is_computed_on_the_loop_and_no_larger_request_is():
    placed, here = Placed(), threading.current_thread().name
    made = batcher(placed.run, inline=True)
    assert await made.submit(1, rows=1, size=10) == 2
    assert placed.threads == ["batch-test"]
    await placed.tried(made)
    assert placed.threads[-1] == here
    assert await asyncio.gather(*(made.submit(number, rows=1, size=2) for number in range(8))) == list(range(0, 16, 2))
    assert placed.threads[-1] == here
    for larger in ({"rows": 9, "size": 2}, {"rows": 1, "size": 1000}):
        assert await made.submit(5, **larger) == 10
        assert placed.threads[-1] == "batch-test"
    await asyncio.to_thread(made.close)


async def test_one_slow_run_sends_a_model_back_to_its_thread():
    placed, here = Placed(), threading.current_thread().name
    made = batcher(placed.run, inline=True)
    await placed.tried(made)
    placed.sleep_s = 0.01
    assert await made.submit(5, rows=1, size=10) == 10
    assert placed.threads[-1] == here
    assert await made.submit(5, rows=1, size=10) == 10
    assert placed.threads[-1] == "batch-test"
    await asyncio.to_thread(made.close)


async def test_a_model_whose_runs_may_grow_with_values_is_never_computed_on_the_loop():
    placed = Placed()
    made = batcher(placed.run)
    await placed.tried(made)
    assert set(placed.threads) == {"batch-test"}
    await asyncio.to_thread(made.close)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.sampled_from(["ask", "large", "cancel", "fail", "pause"]), min_size=1, max_size=30))
def test_on_the_loop_too_every_request_ends_once_and_alone(steps):
    async def tried() -> None:
        def run(items):
            if any(item < 0 for item in items):
                raise InputRefusedError("negative")
            return [item * 2 for item in items]

        made = batcher(run, inline=True, max_waiting=100)
        made._quick.note(0.0, 4, 100)
        for _ in range(30):
            made._quick.note(0.0, 4, 100)
        tasks = []
        for number, step in enumerate(steps):
            value = -1 if step == "fail" else number
            size = 1000 if step == "large" else 1
            tasks.append((value, step, asyncio.create_task(made.submit(value, rows=1, size=size))))
            if step == "cancel":
                tasks[-1][2].cancel()
            if step == "pause":
                await asyncio.sleep(0)
        wanted = [
            {"cancel": asyncio.CancelledError, "fail": InputRefusedError}.get(step, value * 2)
            for value, step, _ in tasks
        ]
        ended = await asyncio.gather(*(task for _, _, task in tasks), return_exceptions=True)
        assert [type(each) if isinstance(each, BaseException) else each for each in ended] == wanted
        assert made.waiting == 0
        await asyncio.to_thread(made.close)

    asyncio.run(tried())
