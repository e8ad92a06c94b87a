"""What is done beside the next step: tokens go to whoever reads them, wherever that is, and become text there."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from engine.errors import InferenceFailedError, ModelNotReadyError
from engine.generation.base import Prompt, Sampling, TokenScore
from engine.generation.outbox import Courier, Outbox, StepResult
from engine.servables import TextGenerator
from tests.fakes.decoders import decoder_folder, open_generator
from tests.unit.engine.test_generation import slowed, until_idle, whole

SCHEMA = {"type": "array", "items": {"enum": ["x", "yy"]}, "minItems": 2, "maxItems": 6}
KINDS = {
    "greedy": Sampling(max_tokens=25, temperature=0),
    "drawn": Sampling(max_tokens=30, temperature=1.3, seed=1),
    "narrow": Sampling(max_tokens=20, temperature=1.3, top_k=5, seed=2),
    "share": Sampling(max_tokens=22, temperature=0.9, top_p=0.8, seed=3),
    "penalised": Sampling(max_tokens=28, temperature=0, frequency_penalty=1.5, presence_penalty=0.5),
    "told": Sampling(max_tokens=18, temperature=0, top_logprobs=2),
    "schema": Sampling(max_tokens=60, temperature=1, seed=4, json_schema=SCHEMA),
    "schema, told": Sampling(max_tokens=60, temperature=0, top_logprobs=0, json_schema=SCHEMA),
    "another greedy one": Sampling(max_tokens=31, temperature=0),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Iterator[TextGenerator]:
    made = open_generator(decoder_folder(tmp_path_factory.mktemp("tiny")))
    yield made
    made.close()


async def scored(model: TextGenerator, name: str) -> tuple[str, list[TokenScore], int]:
    """Text, log-probabilities and number of tokens of an answer of this kind."""
    pieces = [piece async for piece in model.generate(Prompt(f"of kind {name}"), KINDS[name])]
    scores = [score for piece in pieces for score in piece.scores]
    return "".join(piece.text for piece in pieces), scores, pieces[-1].completion_tokens


async def test_answers_of_every_kind_in_one_step_are_those_that_they_are_alone(model):
    alone = [await scored(model, name) for name in KINDS]
    together = await asyncio.gather(*(scored(model, name) for name in KINDS))
    for name, (text, scores, count), (other, others, as_many) in zip(KINDS, alone, together, strict=True):
        assert (name, text, count) == (name, other, as_many)
        assert [each.token for each in scores] == [each.token for each in others]
        assert [each.logprob for each in scores] == pytest.approx([each.logprob for each in others], abs=1e-4)


async def test_a_loop_that_is_busy_keeps_no_step_waiting(tmp_path, monkeypatch):
    model = open_generator(decoder_folder(tmp_path / "m"))
    slowed(model, monkeypatch, 0.002)
    pieces = model.generate(Prompt("abc"), Sampling(max_tokens=60, temperature=0))
    first = await anext(pieces)
    time.sleep(0.3)  # noqa: ASYNC251 -- the loop is busy with something else
    rest = [piece async for piece in pieces]
    assert first.completion_tokens < 20
    assert rest[0].completion_tokens - first.completion_tokens > 20
    model.close()


async def test_a_stop_text_that_is_found_late_ends_the_answer_where_it_stands(model):
    text = await whole(model, "stop here", Sampling(max_tokens=40, temperature=0))
    stop = text[9:12]
    pieces = model.generate(Prompt("stop here"), Sampling(max_tokens=200, temperature=0, stop=(stop,)))
    first = await anext(pieces)
    async with asyncio.timeout(5):
        while model._loop.running and model._loop._rows.cache.tokens < 60:
            await asyncio.sleep(0.001)
    rest = [piece async for piece in pieces]
    assert first.text + "".join(piece.text for piece in rest) == text[: text.index(stop)]
    assert rest[-1].finish == "stop"
    assert rest[-1].completion_tokens < 20
    await until_idle(model)


def test_readers_on_several_loops_get_their_own_answers(model):
    prompts = ["one loop", "another loop", "a third loop"]
    expected = [asyncio.run(whole(model, prompt)) for prompt in prompts]
    found: dict[str, list[str]] = {}

    async def twice(prompt: str) -> list[str]:
        return await asyncio.gather(whole(model, prompt), whole(model, prompt))

    threads = [
        threading.Thread(target=lambda each=each: found.update({each: asyncio.run(twice(each))})) for each in prompts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [found[prompt] for prompt in prompts] == [[text, text] for text in expected]


async def test_tokens_come_in_order_and_an_error_after_them_and_nothing_after_the_end():
    loop = asyncio.get_running_loop()
    courier, one, other = Courier(), Outbox(loop), Outbox(loop)
    courier.send(StepResult([one, other], [5, 6], 1.0), {loop})
    courier.send(StepResult([one, other], [7, 0], 2.0, {}, {0: "length", 1: InferenceFailedError("no")}), {loop})
    courier.fail([one, other], ModelNotReadyError("too late"))
    assert await one.take() == ([(5, None), (7, None)], "length")
    assert (one.received, one.first_at, one.last_at) == (2, 1.0, 2.0)
    assert await other.take() == ([(6, None)], None)
    with pytest.raises(InferenceFailedError):
        await other.take()


async def test_a_loop_that_is_closed_keeps_no_other_waiting():
    gone = asyncio.new_event_loop()
    gone.close()
    here = asyncio.get_running_loop()
    courier, mine = Courier(), Outbox(here)
    courier.send(StepResult([Outbox(gone), mine], [1, 2], 1.0), [gone, here])
    assert await mine.take() == ([(2, None)], None)
