"""How calls of OpenAI's protocol end: with an error, because the caller leaves, because they are cut off."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from types import SimpleNamespace

import pytest

from engine.errors import InferenceFailedError, QueueFullError
from engine.servicers.openai import OpenAIServicer
from mesh.call import current_call
from mesh.identity import Caller, set_caller
from mesh.tokens import TokenRevokedError
from tests.fakes.writer import Writer
from tests.unit.engine.openai_calls import HELLO, LET, One, chat, events_of, request_of


@pytest.fixture(autouse=True)
def _caller():
    set_caller(Caller(tenant="t", subject="tenants/t/principals/p", peer="spiffe://x/gateway"))


@pytest.mark.parametrize("n", [1, 2])
async def test_an_error_before_the_first_word_is_the_calls_own(n):
    with pytest.raises(QueueFullError):
        await chat(Writer(fails=(0, QueueFullError("full"))), stream=True, n=n)


@pytest.mark.parametrize("n", [1, 2])
async def test_an_error_in_mid_stream_is_its_last_event_and_the_calls_end(n):
    writer = Writer(fails=(2, InferenceFailedError("the model broke")))
    bodies = []
    with pytest.raises(InferenceFailedError):
        async for body in OpenAIServicer(One(writer), None, LET).Chat(
            request_of({**HELLO, "stream": True, "n": n}), None
        ):
            bodies.append(body)
    *_, last = events_of(bodies)
    assert last == {
        "error": {"message": "the model broke", "type": "server_error", "param": None, "code": "inference_failed"}
    }
    assert writer.running == 0


async def test_an_error_that_nobody_expected_is_told_without_its_text():
    bodies = []
    with pytest.raises(ValueError, match="secret"):
        async for body in OpenAIServicer(One(Writer(fails=(1, ValueError("secret")))), None, LET).Chat(
            request_of({**HELLO, "stream": True}), None
        ):
            bodies.append(body)
    assert b"secret" not in bodies[-1].data
    assert b'"error"' in bodies[-1].data


@pytest.mark.parametrize("n", [1, 3])
async def test_a_caller_who_leaves_stops_the_computation(n):
    writer = Writer(["word "] * 10_000, pause_s=0.001)
    servicer = OpenAIServicer(One(writer), None, LET)
    async with aclosing(servicer.Chat(request_of({**HELLO, "stream": True, "n": n}), None)) as bodies:
        await anext(bodies)
        await anext(bodies)
    assert (writer.running, writer.stopped) == (0, n)


@pytest.mark.parametrize("n", [1, 3])
async def test_a_call_that_is_cancelled_stops_the_computation(n):
    writer = Writer(["word "] * 10_000, pause_s=0.001)
    task = asyncio.create_task(chat(writer, n=n))
    while writer.running < n:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (writer.running, writer.stopped) == (0, n)


async def test_a_reader_who_is_slow_holds_the_computation():
    writer = Writer(["word "] * 10_000)
    servicer = OpenAIServicer(One(writer), None, LET)
    async with aclosing(servicer.Chat(request_of({**HELLO, "stream": True, "n": 2}), None)) as bodies:
        await anext(bodies)
        await asyncio.sleep(0.05)
        assert writer.made < 20
    assert writer.stopped == 2


@pytest.fixture
def call():
    """The call that is served, as the stages see it."""
    made = SimpleNamespace(usage={}, ended=None, resource="")
    token = current_call.set(made)
    yield made
    current_call.reset(token)


async def test_what_was_used_is_noted_also_where_the_caller_leaves(call):
    await chat(Writer(), n=2)
    assert call.usage == {"tokens_in": 7, "tokens_out": 6}
    assert call.resource == "tenants/t/models/m/versions/1"
    call.usage = {}
    servicer = OpenAIServicer(One(Writer(["word "] * 100)), None, LET)
    async with aclosing(servicer.Chat(request_of({**HELLO, "stream": True}), None)) as bodies:
        for _ in range(4):  # who speaks, and three words
            await anext(bodies)
    assert call.usage == {"tokens_in": 7, "tokens_out": 3}


async def test_a_stream_that_is_cut_off_says_why(call):
    writer = Writer(["word "] * 10_000, pause_s=0.001)
    bodies = []

    async def follow() -> None:
        async for body in OpenAIServicer(One(writer), None, LET).Chat(request_of({**HELLO, "stream": True}), None):
            bodies.append(body)

    task = asyncio.create_task(follow())
    while len(bodies) < 3:
        await asyncio.sleep(0.001)
    call.ended = TokenRevokedError("the token was taken back")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    *_, last = events_of(bodies)
    assert last["error"]["code"] == "token_revoked"
    assert writer.running == 0
