"""What is told of batches: why they went, where their time went, and how long the oldest request has waited."""

from __future__ import annotations

import asyncio
import time

import pytest

from engine.scheduler.batcher import Batcher
from engine.scheduler.observer import Computed
from engine.scheduler.policy import BatchPolicy
from tests.unit.engine.batchers import Gate


class Listening:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.queues, self.runs, self.waits = [], [], []

    def queue(self, queue) -> None:
        self.queues.append(queue)

    def batch(self, ran) -> None:
        self.runs.append(ran)

    def answered(self, ran, waited_s) -> None:
        self.waits.append((ran, waited_s))


async def test_a_batch_that_had_room_went_idle_and_one_that_had_none_went_full():
    gate, heard = Gate(), Listening()
    made = Batcher(gate.run, name="m", policy=BatchPolicy(4, 16), observer=heard)
    first = asyncio.create_task(made.submit(0, rows=1))
    await asyncio.to_thread(gate.entered.wait, 5)
    rest = [asyncio.create_task(made.submit(number, rows=2)) for number in (1, 2)]
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(first, *rest)
    await asyncio.to_thread(made.close)
    assert [(ran.rows, ran.reason) for ran in heard.runs] == [(1, "idle"), (4, "full")]
    assert {ran.reason for ran, _ in heard.waits} == {"idle", "full"}


async def test_the_oldest_wait_grows_while_a_run_is_under_way_and_is_nothing_once_nobody_waits():
    gate, heard = Gate(), Listening()
    made = Batcher(gate.run, name="m", policy=BatchPolicy(4, 16), observer=heard)
    (queue,) = heard.queues
    assert queue.oldest_wait_s == 0
    first = asyncio.create_task(made.submit(0, rows=1))
    await asyncio.to_thread(gate.entered.wait, 5)
    second = asyncio.create_task(made.submit(1, rows=1))
    await asyncio.sleep(0.05)
    assert 0.04 <= queue.oldest_wait_s < 5
    gate.open.set()
    await asyncio.gather(first, second)
    assert queue.oldest_wait_s == 0
    await asyncio.to_thread(made.close)


async def test_what_is_not_the_model_is_no_part_of_its_time():
    heard = Listening()

    def run(items):
        time.sleep(0.03)
        return Computed(items, input_s=0.01, output_s=0.005)

    made = Batcher(run, name="m", policy=BatchPolicy(4, 16), observer=heard)
    assert await made.submit(7, rows=1) == 7
    await asyncio.to_thread(made.close)
    (ran,) = heard.runs
    assert (ran.input_s, ran.output_s) == (0.01, 0.005)
    assert ran.infer_s == pytest.approx(ran.ended - ran.began - 0.015)
