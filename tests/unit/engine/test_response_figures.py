"""Responses counted by their place among those of a request, as Triton counts those of decoupled models."""

from __future__ import annotations

import asyncio
import time

import pytest

from engine.durations import Duration
from engine.errors import InferenceFailedError, InferenceTimeoutError, PromptError, QueueFullError
from engine.response_figures import ResponseFigures

MS = 1_000_000


@pytest.fixture
def figures() -> ResponseFigures:
    return ResponseFigures()


def answered(figures: ResponseFigures, *texts: str) -> None:
    with figures.request() as responses:
        for text in texts:
            responses.made(time.perf_counter(), empty=not text)
            responses.handed()


def test_responses_are_counted_at_their_places_over_all_requests(figures):
    answered(figures, "a", "b", "c")
    answered(figures, "d")
    now = figures.statistics()
    assert list(now) == [0, 1, 2]
    assert [each.success.count for each in now.values()] == [2, 1, 1]
    assert [each.compute_infer.count for each in now.values()] == [2, 1, 1]
    assert all(each.fail == each.cancel == each.empty_response == Duration() for each in now.values())


def test_a_response_that_succeeds_took_its_computing_and_its_output(figures):
    figures.made(0, 0.03, 0.002, empty=False)
    (now,) = figures.statistics().values()
    assert (now.compute_infer, now.compute_output) == (Duration(1, 30 * MS), Duration(1, 2 * MS))
    assert now.success == Duration(1, 32 * MS)


def test_a_response_without_a_text_is_an_empty_one(figures):
    figures.made(1, 0.03, 0.002, empty=True)
    now = figures.statistics()[1]
    assert now.empty_response == now.compute_infer == Duration(1, 30 * MS)
    assert now.success == now.compute_output == Duration()


def test_what_whoever_reads_takes_is_not_the_models_time(figures):
    with figures.request() as responses:
        responses.made(time.perf_counter(), empty=False)
        time.sleep(0.05)
        responses.handed()
        responses.made(time.perf_counter(), empty=False)
    assert sum(each.success.ns for each in figures.statistics().values()) < 50 * MS


@pytest.mark.parametrize("error", [InferenceFailedError("it failed"), InferenceTimeoutError("late"), ValueError("x")])
@pytest.mark.parametrize("before", [0, 2])
def test_a_failure_is_counted_at_the_response_that_was_due(figures, error, before):
    with pytest.raises(type(error)), figures.request() as responses:
        for _ in range(before):
            responses.made(time.perf_counter(), empty=False)
        raise error
    now = figures.statistics()
    assert [each.fail.count for each in now.values()] == [0] * before + [1]
    assert [each.success.count for each in now.values()] == [1] * before + [0]
    assert now[before].compute_infer == now[before].fail
    assert now[before].compute_output == Duration()


@pytest.mark.parametrize("error", [PromptError("prompt", "it is too long"), QueueFullError("full")])
def test_what_is_refused_before_its_first_response_has_none(figures, error):
    with pytest.raises(type(error)), figures.request():
        raise error
    assert figures.statistics() == {}


async def test_what_is_given_up_is_counted_at_the_response_that_was_due(figures):
    async def asked():
        with figures.request() as responses:
            responses.made(time.perf_counter(), empty=False)
            await asyncio.Event().wait()

    task = asyncio.create_task(asked())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    now = figures.statistics()
    assert [each.cancel.count for each in now.values()] == [0, 1]
    assert now[1].compute_infer == now[1].fail == Duration()


def test_places_are_bounded_however_long_answers_are(figures):
    answered(figures, *["x"] * 5000)
    now = figures.statistics()
    assert list(now)[-4:] == [1023, 1024, 2048, 4096]
    assert [now[place].success.count for place in (1023, 1024, 2048, 4096)] == [1, 1024, 2048, 904]
