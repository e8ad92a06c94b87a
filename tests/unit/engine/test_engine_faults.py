"""Versions whose runs end the process: found out by its next life, suspected once, blamed the second time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from engine.adapters.artifact import check_artifact
from engine.errors import InputTooLargeError, ModelFaultError
from engine.repository.faults import Faults
from engine.runtime.sessions import SessionSettings, open_session
from engine.runtime.tracks import Tracks
from tests.unit.engine.graphs import aligning, doubling, model, ranging
from tests.unit.engine.shelf import MODEL, Shelf
from tests.unit.engine.test_hostile_models import ROW

ONE, TWO = f"{MODEL}/versions/1", f"{MODEL}/versions/2"
LIFE = """
import os, signal, sys, threading, time
from pathlib import Path
import numpy as np
from engine.repository.faults import Faults
from engine.runtime.sessions import SessionSettings, open_session

folder, graph, end, *names = sys.argv[1:]
faults = Faults(Path(folder))
faults.watch()
tracks = [faults.track(name) for name in names]
entered = []

def compute(track):
    with track:
        entered.append(track)
        time.sleep(60)

for track in tracks[1:]:
    threading.Thread(target=compute, args=(track,), daemon=True).start()
time.sleep(0.2)
if end == "crash":
    session = open_session(Path(graph), SessionSettings("cpu", 1, track=tracks[0]))
    session.run({"x": np.array([[0, 0, 1e18, 1e18]], np.float32)})
with tracks[0]:
    os.kill(os.getpid(), getattr(signal, end))
    time.sleep(60)
"""


def life(where: Path, end: str, *names: str) -> int:
    """Let an engine compute these versions at once, until the first of them ends it."""
    (where / "model.onnx").write_bytes(aligning())
    ran = subprocess.run(
        [sys.executable, "-c", LIFE, str(where / "faults"), str(where / "model.onnx"), end, *names],
        capture_output=True, timeout=60, check=False, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    return ran.returncode


def test_the_second_fault_is_laid_to_the_version_that_computed_at_both(tmp_path: Path):
    assert life(tmp_path, "crash", ONE) == -signal.SIGABRT
    once = Faults(tmp_path / "faults")
    once.check(ONE)
    assert once.track(ONE).alone is not None
    assert life(tmp_path, "crash", ONE) == -signal.SIGABRT
    twice = Faults(tmp_path / "faults")
    with pytest.raises(ModelFaultError, match=rf"{ONE} ended the engine twice while it computed \(Aborted\)"):
        twice.check(ONE)
    twice.check(TWO)
    twice.forgive(ONE)
    Faults(tmp_path / "faults").check(ONE)


def test_of_several_that_computed_only_the_one_that_ends_it_again_is_blamed(tmp_path: Path):
    assert life(tmp_path, "crash", ONE, TWO) == -signal.SIGABRT
    faults = Faults(tmp_path / "faults")
    one, two = faults.track(ONE), faults.track(TWO)
    assert one.alone is two.alone
    assert one.alone is not None
    assert life(tmp_path, "crash", ONE) == -signal.SIGABRT  # whose turn it was
    later = Faults(tmp_path / "faults")
    later.check(TWO)
    with pytest.raises(ModelFaultError):
        later.check(ONE)


def test_who_is_killed_from_outside_or_ends_as_it_should_suspects_nobody(tmp_path: Path):
    assert life(tmp_path, "SIGKILL", ONE) == -signal.SIGKILL
    assert life(tmp_path, "SIGTERM", ONE) == -signal.SIGTERM
    faults = Faults(tmp_path / "faults")
    assert faults.track(ONE).alone is None
    assert life(tmp_path, "crash", ONE) == -signal.SIGABRT
    Faults(tmp_path / "faults").close()
    assert life(tmp_path, "crash", ONE) == -signal.SIGABRT
    Faults(tmp_path / "faults").check(ONE)


def test_a_suspicion_is_forgotten_after_a_while(tmp_path: Path):
    assert life(tmp_path, "crash", ONE) == -signal.SIGABRT
    Faults(tmp_path / "faults")
    later = Faults(tmp_path / "faults", clock=lambda: time.time() + 3600)
    assert later.track(ONE).alone is None


@pytest.mark.parametrize("left", [b"", b"{", b"[]", b"\xff" * 100], ids=["nothing", "a part", "a list", "no text"])
def test_a_file_that_was_cut_off_keeps_nobody_from_starting(tmp_path: Path, left: bytes):
    for name in ("known.json", "computing"):
        (tmp_path / name).write_bytes(left)
    Faults(tmp_path).check(ONE)
    nowhere = tmp_path / "file"
    nowhere.touch()
    faults = Faults(nowhere / "faults")
    faults.watch()
    assert faults.track(ONE) is None
    faults.close()


def test_suspects_compute_one_after_the_other_and_others_as_they_come(tmp_path: Path):
    tracks, lock = Tracks(tmp_path / "computing"), threading.Lock()
    suspects = [tracks.of(f"s{at}", lock) for at in range(3)]
    free = tracks.of("free")
    at_once, most, changing = 0, 0, threading.Lock()

    def compute(track) -> None:
        nonlocal at_once, most
        with track:
            with changing:
                at_once += 1
                most = max(most, at_once)
            time.sleep(0.02)
            with changing:
                at_once -= 1

    threads = [threading.Thread(target=compute, args=(each,)) for each in suspects * 3]
    with free:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert most == 1
    assert Tracks(tmp_path / "computing").left == frozenset()


def test_a_version_is_said_to_compute_as_long_as_one_of_its_runs_is_under_way(tmp_path: Path):
    tracks = Tracks(tmp_path / "computing")
    track = tracks.of(ONE)
    with track:
        with track:
            pass
        assert (tmp_path / "computing").read_bytes()[0] == 1
        for at in range(5000):  # more than there are slots
            tracks.of(f"m{at}").__enter__()
    left = Tracks(tmp_path / "computing").left
    assert ONE not in left
    assert len(left) == 4095


async def test_a_version_that_was_blamed_makes_room_for_the_one_before_until_it_is_asked_for(tmp_path: Path):
    shelf = Shelf(tmp_path)
    repository = await shelf.started()
    await shelf.push(repository)
    await shelf.push(repository)
    assert repository.versions_of(MODEL) == [2]
    await repository.stop()
    for _ in range(2):
        assert life(tmp_path, "crash", TWO) == -signal.SIGABRT
    faults = Faults(tmp_path / "faults")
    again = await shelf.started(faults=faults)
    entry = (await again._records.versions_of(MODEL))[2]
    assert again.state(entry) == "FAILED"
    assert "ended the engine twice while it computed (Aborted)" in entry.body.failure
    assert again.versions_of(MODEL) == [1]
    assert (await (await again.found("t", "m", "")).infer(ROW)).outputs["y"].tolist() == [[2.0, 2.0]]
    await again.lifecycle.load(TWO)
    assert 2 in again.versions_of(MODEL)
    faults.check(TWO)
    await shelf.close()


def sized(*nodes, **weights: np.ndarray) -> bytes:
    return model(nodes, {"x": (TensorProto.INT64, ["n"])}, {"y": (TensorProto.INT64, None)}, weights)


@pytest.mark.parametrize(
    ("content", "by_values"),
    [
        (ranging(), True),
        (aligning(), True),
        (doubling(["n", 2]), False),
        (sized(helper.make_node("ConstantOfShape", ["x"], ["y"])), True),
        (sized(helper.make_node("Mul", ["x", "two"], ["t"]), helper.make_node("Tile", ["x", "t"], ["y"]),
               two=np.array([2])), True),
        (sized(helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Mul", ["s", "two"], ["t"]),
               helper.make_node("Tile", ["x", "t"], ["y"]), two=np.array([2])), False),
        (sized(helper.make_node("Expand", ["x", "s"], ["y"]), s=np.array([5, 1])), False),
    ],
    ids=["a range", "boxes", "a sum", "a shape", "twice what is sent", "twice its length", "a constant"],
)  # fmt: skip
def test_steps_whose_size_a_value_says_are_told_from_those_of_lengths(tmp_path: Path, content: bytes, by_values: bool):
    (tmp_path / "model.onnx").write_bytes(content)
    assert check_artifact(tmp_path / "model.onnx").sized_by_values is by_values


BOUNDED = """
import sys
from pathlib import Path
import numpy as np
import psutil
import engine.runtime.memory_bound as bound
from engine.errors import InputTooLargeError
from engine.runtime.sessions import SessionSettings, open_session

bound.memory_there_is = lambda: 512 << 20
assert bound.bound_memory() < 1 << 30
session = open_session(Path(sys.argv[1]), SessionSettings("cpu", 1))
before = psutil.Process().memory_info().rss
for count in (3e8, 1e9, 1e12, 1e18):
    try:
        session.run({"x": np.array(count, np.float32)})
    except InputTooLargeError as error:
        assert "needs more memory for this input than there is" in error.message, error.message
    else:
        raise AssertionError(count)
session.run({"x": np.array(5e7, np.float32)})
assert psutil.Process().memory_info().rss - before < 64 << 20, "kept"
assert session.run({"x": np.array(4, np.float32)})["y"] == 6
"""


def test_what_a_value_makes_a_graph_take_is_bounded_refused_and_given_back(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(ranging())
    ran = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(tmp_path / "model.onnx")],
        capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_an_output_of_more_elements_than_an_array_has_is_refused(tmp_path: Path):
    nodes = (helper.make_node("ConstantOfShape", ["x"], ["z"]), helper.make_node("Cast", ["z"], ["y"], to=7))
    (tmp_path / "model.onnx").write_bytes(sized(*nodes))
    session = open_session(tmp_path / "model.onnx", SessionSettings("cpu", 1))
    with pytest.raises(InputTooLargeError):
        session.run({"x": np.array([0, 2**63 - 1])})
    session.close()
