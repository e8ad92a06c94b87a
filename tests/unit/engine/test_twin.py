"""The second session of a model: when there is one, what it costs nobody, and how it ends."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from engine.errors import ModelNotReadyError
from engine.runtime.sessions import SessionSettings
from engine.scheduler import twin
from engine.scheduler.twin import Twin
from tests.unit.engine.graphs import doubling


def run(session, items):
    return [session.run({"x": np.concatenate(list(items))})]


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "m.onnx"
    made.write_bytes(doubling(["n", 2]))
    return made


def test_it_computes_what_the_first_one_does(path):
    made = Twin(path, SessionSettings(intra_op_threads=2), run)
    beside = made.open()
    assert beside is not None
    answer = beside.run([np.ones((1, 2), np.float32)])[0]
    assert next(iter(answer.values())).tolist() == [[2, 2]]
    made.close()
    with pytest.raises(ModelNotReadyError):
        beside.run([np.ones((1, 2), np.float32)])


@pytest.mark.parametrize("settings", [SessionSettings(intra_op_threads=1), SessionSettings(twins=False)])
def test_one_core_or_the_operator_keeps_it_away(path, settings):
    assert Twin(path, settings, run).open() is None


def test_a_model_with_large_files_is_in_memory_once(path, monkeypatch):
    monkeypatch.setattr("engine.scheduler.twin._MAX_BYTES", 1 << 20)
    with (path.parent / "weights.bin").open("wb") as file:
        file.truncate(1 << 21)
    assert Twin(path, SessionSettings(intra_op_threads=2), run).open() is None


def test_a_file_that_is_gone_leaves_the_first_session_alone(path, capsys):
    made = Twin(path, SessionSettings(intra_op_threads=2), run)
    path.unlink()
    assert made.open() is None
    assert "no second session" in capsys.readouterr().out


async def test_one_that_opens_while_its_model_goes_is_closed(path, monkeypatch):
    began, go_on = threading.Event(), threading.Event()
    opened = []
    real = twin.open_session

    def slow(*arguments):
        began.set()
        go_on.wait(10)
        opened.append(real(*arguments))
        return opened[0]

    monkeypatch.setattr(twin, "open_session", slow)
    made = Twin(path, SessionSettings(intra_op_threads=2), run)
    opening = asyncio.create_task(asyncio.to_thread(made.open))
    await asyncio.to_thread(began.wait, 10)
    made.close()
    go_on.set()
    assert await opening is None
    with pytest.raises(ModelNotReadyError):
        opened[0].run({"x": np.ones((1, 2), np.float32)})
