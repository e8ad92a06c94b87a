"""Models that would fill the memory or never end: they are refused or stopped, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from engine.errors import InferenceTimeoutError, ManifestError, ModelFileError, ModelNotReadyError, TensorError
from engine.manifest import parse_manifest
from engine.runtime.sessions import SessionSettings
from engine.servables import ImageClassifier
from mesh.sandbox import ImagePool
from tests.unit.engine.graphs import context_of, doubling, endless, folder, mean_of_channels, opened

MANIFEST = "name: m\nkind: onnx\n"
IMAGES = "name: m\nkind: image-classification\nscale: [0, 1]\n"
ROW = {"x": np.ones((1, 2), np.float32)}


def opened_images(where: Path, manifest: str, content: bytes) -> ImageClassifier:
    parsed = parse_manifest(manifest.encode(), model="m")
    made = folder(where, manifest, model=content)
    return ImageClassifier(context_of(made, parsed), ImagePool())


@pytest.fixture
def short_trials(monkeypatch):
    for module in ("graph", "trial"):
        monkeypatch.setattr(f"engine.servables.{module}.TRIAL_S", 0.3)


@pytest.mark.parametrize("shape", [["n", 30000, 30000], [10**9, 2], [2**31, 2**31, 2**31]])
def test_an_input_that_would_fill_the_memory_is_refused_by_name(tmp_path: Path, shape):
    with pytest.raises(ModelFileError, match=r"model\.onnx: the input 'x' has the shape .* values at least"):
        opened(tmp_path / "a", MANIFEST, model=doubling(shape))
    with pytest.raises(ModelFileError, match="the input 'x' has the shape"):
        opened_images(tmp_path / "b", IMAGES, doubling(shape))


def test_images_that_would_fill_the_memory_together_are_refused(tmp_path: Path):
    content = mean_of_channels([2**20, 3, "h", "w"], [2, 3], softmax=True)
    with pytest.raises(ManifestError, match="1048576 images of 100 by 100 pixels at once are more than"):
        opened_images(tmp_path, IMAGES + "size: [100, 100]\n", content)


def test_a_sample_that_would_be_large_is_not_tried(tmp_path: Path):
    made = opened(tmp_path, MANIFEST, model=doubling([f"axis{at}" for at in range(30)]))
    assert "batching: off" in made.inferred
    made.close()


async def test_rows_are_not_filled_up_to_more_than_the_memory_holds(tmp_path: Path):
    made = opened(tmp_path, MANIFEST + "probabilities: y\n", model=doubling([2**20, "m"]))
    with pytest.raises(TensorError, match="would be filled up to 1048576 rows"):
        await made.classify([[1.0] * 100])
    made.close()


async def test_a_graph_that_never_ends_is_opened_but_shares_no_run(tmp_path: Path, short_trials):
    made = opened(tmp_path, MANIFEST, model=endless(["n", 2]))
    assert "batching: off" in made.inferred
    made.close()


def test_an_image_classifier_that_never_ends_is_refused(tmp_path: Path, short_trials):
    with pytest.raises(ModelFileError, match=r"computes longer than 0\.3 s for a first input"):
        opened_images(tmp_path, IMAGES, endless(["n", 1, 4, 4], ["n", 16]))


async def test_a_run_that_takes_too_long_is_stopped_and_the_next_one_is_begun(tmp_path: Path):
    settings = SessionSettings(max_run_s=0.3)
    made = opened(tmp_path, MANIFEST + "batching: off\n", settings, model=endless(["n", 2]))
    answers = await asyncio.gather(*(made.infer(ROW) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [InferenceTimeoutError] * 3
    assert "computed for 0.3 s" in answers[0].message
    made.close()


async def test_a_run_whose_caller_has_gone_is_ended_and_the_next_one_is_begun(tmp_path: Path):
    made = opened(tmp_path, MANIFEST + "batching: off\n", SessionSettings(max_run_s=30), model=endless(["n", 2]))
    gone, _ = asked = [asyncio.create_task(made.infer(ROW)) for _ in range(2)]
    while made.waiting != 1:
        await asyncio.sleep(0.01)
    gone.cancel()
    async with asyncio.timeout(5):
        while made.waiting:
            await asyncio.sleep(0.01)
    assert not asked[1].done()
    asked[1].cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 2
    began = time.monotonic()
    await asyncio.to_thread(made.close)
    assert time.monotonic() - began < 3


async def test_closing_stops_the_run_under_way_and_refuses_what_waits(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("engine.scheduler.batcher._CLOSE_S", 0.2)
    made = opened(tmp_path, MANIFEST + "batching: off\n", model=endless(["n", 2]))
    asked = [asyncio.create_task(made.infer(ROW)) for _ in range(3)]
    while made.waiting != 2:
        await asyncio.sleep(0.01)
    began = time.monotonic()
    await asyncio.to_thread(made.close)
    assert time.monotonic() - began < 3
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ModelNotReadyError] * 3
    with pytest.raises(ModelNotReadyError):
        await made.infer(ROW)


async def test_no_thread_watches_where_nothing_runs(tmp_path: Path):
    others = set(threading.enumerate())

    def watching() -> int:
        return sum(thread.name == "run-watch" for thread in set(threading.enumerate()) - others)

    made = opened(tmp_path, MANIFEST, SessionSettings(max_run_s=0.2), model=doubling(["n", 2]))
    for _ in range(3):
        await made.infer(ROW)
    assert watching() <= 1
    deadline = time.monotonic() + 10
    while watching():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    made.close()
