"""Several sessions of one model: as many as its manifest says, from one queue."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from engine.errors import DeviceUnavailableError, ManifestError
from engine.runtime.budget import CoreBudget
from engine.runtime.sessions import SessionSettings, cores
from engine.scheduler.instances import Instances
from engine.scheduler.policy import BatchPolicy
from tests.unit.engine.graphs import Silent, doubling

TWO_CORES = pytest.mark.skipif(cores() < 2, reason="two instances on the CPU want two cores")


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "m.onnx"
    made.write_bytes(doubling(["n", 2]))
    return made


@TWO_CORES
async def test_two_sessions_compute_at_once_and_everybody_gets_their_own_answer(path):
    both, used = threading.Barrier(2, timeout=10), set()

    def run(session, items):
        if len(used) < 2:
            used.add(id(session))
            both.wait()
        return [next(iter(session.run({"x": item}).values())) for item in items]

    made = Instances(path, SessionSettings(budget=CoreBudget(2)), run, ("", "cpu"))
    batcher = made.batcher("m", BatchPolicy(1, 64), Silent())
    rows = [np.full((1, 2), number, np.float32) for number in range(20)]
    answers = await asyncio.gather(*(batcher.submit(row, rows=1) for row in rows))
    assert [answer.tolist() for answer in answers] == [[[2 * n, 2 * n]] for n in range(20)]
    assert len(used) == 2
    await asyncio.to_thread(batcher.close)
    made.close()


def test_more_than_there_are_cores_are_refused_with_the_line_to_write(path):
    with pytest.raises(ManifestError, match=f"write the line `instances: {cores()}`"):
        Instances(path, SessionSettings(), lambda *_: [], ("cpu",) * (cores() + 1))


@pytest.mark.parametrize("device", ["cuda:1", "cuda"])
def test_a_device_that_is_not_there_is_said_and_nothing_stays_in_memory(path, device):
    with pytest.raises(DeviceUnavailableError):
        Instances(path, SessionSettings(), lambda *_: [], ("cpu", device))
