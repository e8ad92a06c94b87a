"""Answers while something ends or fails: a step, the model, the room in the cache."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import InferenceFailedError, ModelNotReadyError
from engine.generation.base import Sampling
from engine.tensor import Tensor
from tests.fakes.decoders import CONTEXT, decoder_folder, open_generator
from tests.unit.engine.test_generation import PROMPTS, slowed, whole


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return decoder_folder(tmp_path_factory.mktemp("tiny"))


async def test_a_step_that_fails_fails_those_in_it_and_nobody_after(folder, monkeypatch):
    model = open_generator(folder)
    slowed(model, monkeypatch, 0.002)
    tasks = [asyncio.ensure_future(whole(model, prompt, Sampling(max_tokens=100, temperature=0))) for prompt in PROMPTS]
    await asyncio.sleep(0.05)
    run = model._session.run

    def broken(*arguments, **named):
        monkeypatch.setattr(model._session, "run", run)
        raise RuntimeError

    monkeypatch.setattr(model._session, "run", broken)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(result, InferenceFailedError) for result in results)
    assert all(isinstance(result, InferenceFailedError | str) for result in results)
    assert await whole(model, "a")
    model.close()


async def test_logits_that_are_no_numbers_are_an_error_of_that_answer(folder, monkeypatch):
    model = open_generator(folder)
    run = model._session.run

    def poisoned(*arguments, **named) -> dict[str, Tensor]:
        found = run(*arguments, **named)
        return {**found, "logits": found["logits"] * float("nan")}

    monkeypatch.setattr(model._session, "run", poisoned)
    with pytest.raises(InferenceFailedError, match="no numbers"):
        await whole(model, "a")
    model.close()


async def test_unloading_finishes_what_is_under_way_and_takes_nothing_more(folder, monkeypatch):
    model = open_generator(folder)
    slowed(model, monkeypatch, 0.005)
    task = asyncio.ensure_future(whole(model, "x", Sampling(max_tokens=20, temperature=0)))
    await asyncio.sleep(0.03)
    closing = asyncio.ensure_future(asyncio.to_thread(model.close))
    await asyncio.sleep(0.01)
    with pytest.raises(ModelNotReadyError):
        await whole(model, "y")
    assert len(await task) > 0
    await closing


async def test_what_is_not_finished_soon_after_unloading_ends_with_an_error(folder, monkeypatch):
    monkeypatch.setattr("engine.generation.loop._CLOSE_S", 0.1)
    model = open_generator(folder)
    slowed(model, monkeypatch, 0.02)
    task = asyncio.ensure_future(whole(model, "x", Sampling(max_tokens=200, temperature=0)))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(model.close)
    with pytest.raises(ModelNotReadyError):
        await task


async def test_what_does_not_fit_into_the_cache_waits_until_it_does(folder, monkeypatch):
    model = open_generator(folder, more="cache_mb: 1\n")
    object.__setattr__(model._loop._limits, "cache_tokens", CONTEXT)
    slowed(model, monkeypatch, 0.002)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, model._loop.running)
            await asyncio.sleep(0.001)

    watching = asyncio.ensure_future(watch())
    await asyncio.gather(*(whole(model, "x" * 100, Sampling(max_tokens=28, temperature=0)) for _ in range(5)))
    watching.cancel()
    assert most == 2
    model.close()
