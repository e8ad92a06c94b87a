"""Answers computed together: the same as alone, whoever joins, leaves or fails beside them."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import (
    AnswerUnreadError,
    EngineError,
    PromptError,
    QueueFullError,
    QueueTimeoutError,
    SamplingError,
)
from engine.generation import outbox
from engine.generation.base import Piece, Prompt, Sampling
from engine.scheduler.terms import PLAIN, Terms
from engine.servables import TextGenerator
from tests.fakes.decoders import CONTEXT, decoder_folder, open_generator

GREEDY = Sampling(max_tokens=12, temperature=0)
PROMPTS = ("a", "Hello, how are you", "The quick brown fox jumps over", "zz" * 40, "é€", "1 2 3 4 5 6 7 8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return decoder_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(folder) -> Iterator[TextGenerator]:
    made = open_generator(folder, more="prefill_tokens: 16\nmax_running: 5\n")
    assert made.inferred == ("file: model.onnx",)
    yield made
    made.close()


@pytest.fixture
def slow(folder, monkeypatch) -> Iterator[TextGenerator]:
    """A model of which each step takes ten milliseconds, one answer at a time."""
    made = open_generator(folder, more="max_running: 1\nmax_queue: 4\n")
    slowed(made, monkeypatch)
    yield made
    made.close()


def slowed(model: TextGenerator, monkeypatch, by_s: float = 0.01) -> None:
    run = model._session.run

    def slow_run(*arguments, **named):
        time.sleep(by_s)
        return run(*arguments, **named)

    monkeypatch.setattr(model._session, "run", slow_run)


async def whole(model: TextGenerator, prompt: str, sampling: Sampling = GREEDY, terms: Terms = PLAIN) -> str:
    pieces = [piece async for piece in model.generate(Prompt(prompt), sampling, terms)]
    assert [piece.finish for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1].finish is not None
    assert all(one.completion_tokens < two.completion_tokens for one, two in pairwise(pieces))
    return "".join(piece.text for piece in pieces)


async def filled(model: TextGenerator, owner: str = "") -> list[asyncio.Task[str]]:
    """One answer under way and four that wait."""
    tasks = []
    for place in range(5):
        sampling = Sampling(max_tokens=30, temperature=0)
        tasks.append(asyncio.ensure_future(whole(model, "x", sampling, Terms(owner))))
        async with asyncio.timeout(5):
            while (model._loop.running, model.waiting) != (1, place):
                await asyncio.sleep(0.001)
    return tasks


async def until_idle(model: TextGenerator) -> None:
    async with asyncio.timeout(5):
        while model._loop.running or model.waiting:
            await asyncio.sleep(0.005)


async def test_answers_that_are_computed_together_are_those_that_are_computed_alone(model):
    alone = [await whole(model, prompt) for prompt in PROMPTS]
    assert await asyncio.gather(*(whole(model, prompt) for prompt in PROMPTS)) == alone
    assert len(set(alone)) > 3


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(PROMPTS),
            st.integers(1, 30),
            st.floats(0, 0.01),
            st.one_of(st.none(), st.integers(0, 6)),
            st.booleans(),
        ),
        min_size=2,
        max_size=10,
    )
)
def test_whoever_joins_leaves_or_goes_away_changes_no_other_answer(model, plan):
    """Each: prompt, length, when it comes, after how many pieces it is given up, whether tokens are drawn by chance."""

    async def one(prompt: str, length: int, at: float, leaves: int | None, drawn: bool) -> str | None:
        await asyncio.sleep(at)
        sampling = Sampling(max_tokens=length, temperature=0.8 if drawn else 0, top_p=0.9, seed=length)
        if leaves is None:
            return await whole(model, prompt, sampling)
        async with aclosing(model.generate(Prompt(prompt), sampling)) as pieces:
            for _ in range(leaves):
                if (await anext(pieces)).finish is not None:
                    break
        return None

    async def check() -> None:
        together = await asyncio.gather(*(one(*each) for each in plan))
        for each, answer in zip(plan, together, strict=True):
            if answer is not None:
                assert answer == await one(each[0], each[1], 0, None, each[4])
        await until_idle(model)

    asyncio.run(check())


async def test_the_same_seed_gives_the_same_answer_and_another_one_another(model):
    drawn = [await whole(model, "seed", Sampling(max_tokens=20, temperature=1.5, seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert await whole(model, "seed", Sampling(max_tokens=20, temperature=3)) != await whole(
        model, "seed", Sampling(max_tokens=20, temperature=3)
    )


async def test_a_long_prompt_is_read_in_pieces_and_others_go_on_meanwhile(folder, monkeypatch):
    model = open_generator(folder, more="prefill_tokens: 16\nprefix_mb: 0\n")
    alone = await whole(model, "x" * 200)
    seen: list[int] = []
    run = model._session.run

    def noted(feeds, *arguments, **named):
        seen.append(feeds["input_ids"].shape[1])
        return run(feeds, *arguments, **named)

    monkeypatch.setattr(model._session, "run", noted)
    slowed(model, monkeypatch, 0.001)
    first = asyncio.ensure_future(whole(model, "short", Sampling(max_tokens=100, temperature=0)))
    await asyncio.sleep(0.02)
    assert await whole(model, "x" * 200) == alone
    await first
    assert max(seen) == 16
    assert 1 in seen[seen.index(16) : len(seen) - seen[::-1].index(16)]
    model.close()


async def test_an_answer_ends_where_its_length_or_the_context_does(model):
    [*_, last] = [piece async for piece in model.generate(Prompt("abc"), GREEDY)]
    assert (last.finish, last.prompt_tokens, last.completion_tokens) == ("length", 3, 12)
    [*_, last] = [piece async for piece in model.generate(Prompt("x" * 250), Sampling(temperature=0))]
    assert last.finish in ("length", "stop")
    assert last.completion_tokens <= CONTEXT - 250


async def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(model):
    text = await whole(model, "stop here", Sampling(max_tokens=40, temperature=0))
    stop = text[5:9]
    found = await whole(model, "stop here", Sampling(max_tokens=40, temperature=0, stop=(stop,)))
    assert found == text[: text.index(stop)]


async def test_log_probabilities_come_for_each_token_and_the_chosen_is_the_best_of_them(model):
    pieces = [
        piece async for piece in model.generate(Prompt("abc"), Sampling(max_tokens=8, temperature=0, top_logprobs=3))
    ]
    scores = [score for piece in pieces for score in piece.scores]
    assert len(scores) == pieces[-1].completion_tokens
    for score in scores:
        assert len(score.top) == 3
        assert (score.token, score.logprob) == score.top[0]
        assert score.top[0][1] >= score.top[1][1] >= score.top[2][1]
        assert score.logprob <= 0


async def test_penalties_keep_tokens_from_coming_again(model):
    plain = await whole(model, "again", Sampling(max_tokens=60, temperature=0))
    varied = await whole(
        model, "again", Sampling(max_tokens=60, temperature=0, frequency_penalty=2, presence_penalty=2)
    )
    assert plain != varied


@pytest.mark.parametrize(
    ("sampling", "field"),
    [
        (Sampling(temperature=-1), "temperature"),
        (Sampling(temperature=float("nan")), "temperature"),
        (Sampling(top_p=0), "top_p"),
        (Sampling(top_k=-1), "top_k"),
        (Sampling(max_tokens=-1), "max_tokens"),
        (Sampling(presence_penalty=9), "presence_penalty"),
        (Sampling(top_logprobs=21), "top_logprobs"),
        (Sampling(stop=("",)), "stop"),
        (Sampling(stop=("x",) * 17), "stop"),
        (Sampling(json_schema={"type": "nonsense"}), "json_schema"),
        (Sampling(json_schema={"enum": ["x" * 70_000]}), "json_schema"),
        (Sampling(json_schema={"$ref": "#"}), "json_schema"),
        (Sampling(json_schema={"allOf": [{"properties": {f"p{at}": {}}} for at in range(400)]}), "json_schema"),
    ],
)
async def test_a_wish_that_cannot_be_met_is_named(model, sampling, field):
    with pytest.raises(SamplingError, match=f"^{field}: "):
        await whole(model, "x", sampling)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (Prompt("x" * CONTEXT), "has 256 tokens"),
        (Prompt("x" * 5_000_000), "characters"),
        (Prompt(), "either a text or messages"),
        (Prompt("a\ud800"), "half of a character"),
        (Prompt("x", tool_choice="required"), "no tools"),
    ],
)
async def test_a_prompt_that_cannot_be_is_refused_before_anything_is_computed(model, prompt, words):
    with pytest.raises(PromptError, match=words):
        [piece async for piece in model.generate(prompt, GREEDY)]


async def test_the_empty_text_begins_with_the_token_that_begins_texts(model):
    assert len(await whole(model, "")) > 0


async def test_who_goes_away_frees_the_place_within_a_step(slow):
    pieces = slow.generate(Prompt("x"), Sampling(max_tokens=200, temperature=0))
    await anext(pieces)
    second = asyncio.ensure_future(whole(slow, "y", Sampling(max_tokens=1, temperature=0)))
    await asyncio.sleep(0.05)
    assert not second.done()
    began = time.monotonic()
    await pieces.aclose()
    await second
    assert time.monotonic() - began < 0.5


async def test_a_cancelled_task_frees_the_place_too(slow):
    task = asyncio.ensure_future(whole(slow, "x", Sampling(max_tokens=200, temperature=0)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_idle(slow)


async def test_where_the_queue_is_full_the_next_one_is_told_when_to_come_again(slow):
    tasks = await filled(slow)
    with pytest.raises(QueueFullError) as refused:
        await whole(slow, "x")
    assert refused.value.retry_after_s == 1
    await asyncio.gather(*tasks)


async def test_an_owner_who_fills_the_queue_gives_way_to_another_one(slow):
    tasks = await filled(slow, "a")
    assert await whole(slow, "x", GREEDY, Terms("b"))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(result, QueueFullError) for result in results) == 1


async def test_the_urgent_come_first_and_then_whoever_has_the_least_under_way(slow):
    order: list[str] = []

    async def one(name: str, terms: Terms) -> None:
        await whole(slow, "x", Sampling(max_tokens=3, temperature=0), terms)
        order.append(name)

    busy = asyncio.ensure_future(one("first", Terms("a")))
    await asyncio.sleep(0.02)
    late = [
        asyncio.ensure_future(one("common", Terms("a"))),
        asyncio.ensure_future(one("urgent", Terms("a", priority=1))),
    ]
    await asyncio.gather(busy, *late)
    assert order == ["first", "urgent", "common"]


async def test_who_waits_longer_than_they_may_is_told_so(slow):
    busy = asyncio.ensure_future(whole(slow, "x", Sampling(max_tokens=60, temperature=0)))
    await asyncio.sleep(0.03)
    with pytest.raises(QueueTimeoutError, match="waited for 50 ms"):
        await whole(slow, "x", GREEDY, Terms(timeout_s=0.05))
    await busy


async def test_who_says_nothing_waits_as_long_as_the_model_says(folder, monkeypatch):
    model = open_generator(folder, more="max_running: 1\ntimeout_ms: 50\n")
    slowed(model, monkeypatch)
    busy = asyncio.ensure_future(whole(model, "x", Sampling(max_tokens=60, temperature=0), Terms(timeout_s=10)))
    await asyncio.sleep(0.03)
    with pytest.raises(QueueTimeoutError):
        await whole(model, "x")
    await busy
    model.close()


async def test_a_reader_who_never_reads_is_stopped_and_others_go_on(folder, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_UNREAD", 20)
    model = open_generator(folder)
    slowed(model, monkeypatch, 0.001)
    pieces = model.generate(Prompt("abc"), Sampling(max_tokens=200, temperature=1.5, seed=1))
    await anext(pieces)
    assert await whole(model, "abc")
    await until_idle(model)
    with pytest.raises(AnswerUnreadError, match="20 tokens"):
        [piece async for piece in pieces]
    model.close()


async def test_a_slow_reader_gets_fewer_and_longer_pieces(slow):
    pieces = slow.generate(Prompt("slow reader"), Sampling(max_tokens=20, temperature=0))
    first = await anext(pieces)
    await until_idle(slow)
    rest = [piece async for piece in pieces]
    assert len(rest) == 1
    assert first.text + rest[0].text == await whole(slow, "slow reader", Sampling(max_tokens=20, temperature=0))


async def test_tensors_in_and_out_give_the_same_text(model):
    texts = np.array([prompt.encode() for prompt in PROMPTS[:3]], object)
    found = await model.infer({"text_input": texts})
    alone = [await whole(model, prompt, Sampling(max_tokens=256)) for prompt in PROMPTS[:3]]
    assert found.rows == 3
    assert len(found.outputs["text_output"]) == len(alone)
    with pytest.raises(EngineError, match=r"text_input\[1\]"):
        await model.infer({"text_input": np.array([b"a", b"\xff"], object)})


async def test_pieces_never_hold_half_a_character(model):
    async def pieces() -> AsyncIterator[Piece]:
        async for piece in model.generate(Prompt("€"), Sampling(max_tokens=100, temperature=2, seed=4)):
            yield piece

    text = "".join([piece.text async for piece in pieces()])
    assert text.encode()
