"""Prompts that begin alike: they are read once, answers stay the same, and no tenant gets what another one's left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.generation.base import Sampling
from engine.generation.cache import Cache
from engine.generation.prefixes import LEAST_TOKENS, NOTHING_KEPT, Prefixes
from engine.scheduler.terms import Terms
from engine.servables import TextGenerator
from tests.fakes.decoders import decoder_folder, open_generator
from tests.unit.engine.test_generation import whole

SYSTEM = "You are a helpful assistant, and answer in one line. "
GREEDY = Sampling(max_tokens=12, temperature=0)


def cache_of(length: int) -> Cache:
    return Cache([np.zeros((1, 1, length, 1), np.float32)], np.array([length], np.int64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return decoder_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def plain(folder) -> Iterator[TextGenerator]:
    """A model that keeps nothing."""
    made = open_generator(folder, more="prefix_mb: 0\n")
    yield made
    made.close()


@pytest.fixture
def model(folder) -> Iterator[TextGenerator]:
    made = open_generator(folder, more="prefill_tokens: 128\n")
    yield made
    made.close()


@pytest.fixture
def read(model, monkeypatch) -> list[tuple[int, int]]:
    """Rows and tokens of each of its runs that reads prompts."""
    seen: list[tuple[int, int]] = []
    run = model._session.run

    def noted(feeds, *arguments, **named):
        if feeds["input_ids"].shape[1] > 1:
            seen.append(feeds["input_ids"].shape)
        return run(feeds, *arguments, **named)

    monkeypatch.setattr(model._session, "run", noted)
    return seen


async def test_what_prompts_begin_with_alike_is_read_once(model, read, plain):
    questions = ["What is a flow?", "What is a model, then?"]
    for question in questions:
        assert await whole(model, SYSTEM + question, GREEDY) == await whole(plain, SYSTEM + question, GREEDY)
    alike = len(SYSTEM) + len("What is a ")
    assert read == [(1, len(SYSTEM + questions[0])), (1, len(SYSTEM + questions[1]) - alike)]


async def test_the_same_prompt_again_is_read_but_for_its_last_token(model, read, plain):
    expected = await whole(plain, SYSTEM, GREEDY)
    assert [await whole(model, SYSTEM, GREEDY) for _ in range(3)] == [expected] * 3
    assert read == [(1, len(SYSTEM))]


async def test_no_owner_gets_what_another_ones_prompts_left(model, read, plain):
    prompts = [SYSTEM + "a", SYSTEM + "b"]
    for owner in ("one", "other"):
        for prompt in prompts:
            assert await whole(model, prompt, GREEDY, Terms(owner)) == await whole(plain, prompt, GREEDY)
    assert read == [(1, len(SYSTEM) + 1)] * 2


async def test_several_that_begin_alike_are_read_together_from_where_they_differ(model, read, plain):
    await whole(model, SYSTEM + "first", GREEDY)
    prompts = [SYSTEM + "a" * count for count in (3, 9, 17, 5)]
    expected = [await whole(plain, prompt, GREEDY) for prompt in prompts]
    assert await asyncio.gather(*(whole(model, prompt, GREEDY) for prompt in prompts)) == expected
    assert all(tokens <= 17 for _, tokens in read[1:])
    assert sum(rows for rows, _ in read[1:]) == 4
    assert len(read) < 5


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([SYSTEM, SYSTEM * 3, "", "Another beginning, which is long enough too. "]),
            st.text("abc", min_size=1, max_size=50),
            st.sampled_from(["one", "other"]),
        ),
        min_size=2,
        max_size=10,
    )
)
def test_answers_are_those_that_nothing_was_kept_for(folder, plain, plan):
    made = open_generator(folder, more="prefill_tokens: 64\nmax_running: 4\n")

    async def check() -> None:
        asked = [(begins + rest, owner) for begins, rest, owner in plan]
        found = await asyncio.gather(*(whole(made, prompt, GREEDY, Terms(owner)) for prompt, owner in asked))
        assert found == [await whole(plain, prompt, GREEDY) for prompt, _ in asked]

    asyncio.run(check())
    made.close()


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 1), min_size=1, max_size=6), st.integers(0, 60)),
        max_size=40,
    )
)
def test_the_longest_beginning_is_found_and_no_more_is_kept_than_may_be(plan):
    prefixes = Prefixes(200)
    for owner, tail, more in plan:
        prompt = [7] * LEAST_TOKENS + tail + [8] * more
        found = prefixes.find(owner, prompt)
        kept = [each for each in prefixes._kept if each.owner == owner]
        alike = [
            next((at for at, (a, b) in enumerate(zip(prompt[:-1], each.tokens, strict=False)) if a != b), None)
            or min(len(prompt) - 1, len(each.tokens))
            for each in kept
        ]
        assert found.tokens == max(alike, default=0)
        if prefixes.wants(owner, prompt):
            prefixes.keep(owner, prompt, cache_of(len(prompt)))
        assert prefixes.tokens == sum(each.cache.tokens for each in prefixes._kept) <= 200


def test_an_owner_with_many_prompts_pushes_out_its_own():
    prefixes = Prefixes(300)
    little = [1] * 40
    prefixes.keep("little", little, cache_of(40))
    for at in range(20):
        prefixes.keep("much", [at] * 50, cache_of(50))
    assert prefixes.find("little", [*little, 5]).tokens == 40
    assert prefixes.find("much", [0] * 51) is NOTHING_KEPT
    assert prefixes.find("much", [19] * 51).tokens == 50


def test_what_is_short_or_larger_than_there_is_room_is_not_kept():
    prefixes = Prefixes(100)
    assert not prefixes.wants("a", [1] * (LEAST_TOKENS - 1))
    assert not prefixes.wants("a", [1] * 101)
    assert prefixes.wants("a", [1] * 100)
    assert not Prefixes(0).wants("a", [1] * 50)
