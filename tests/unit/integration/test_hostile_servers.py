"""Servers that no connector should trust: each gets one clear error, in time and without filling the memory."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from integration.adapters.http_client import HttpClient, HttpRequest
from integration.connections import Retry
from integration.errors import (
    AnswerInvalidError,
    AnswerTooLargeError,
    CallTimeoutError,
    RateLimitedError,
    SystemUnavailableError,
)
from mesh.identity import Caller, set_caller
from tests.fakes.web import Reply, peer, reply
from tests.unit.integration.conftest import LOCAL

OK = b"HTTP/1.1 200 OK\r\n"
JSON = {"content-type": "application/json"}
GZIP = {"content-type": "text/plain", "content-encoding": "gzip"}


def chunked(part: bytes, count: int) -> list[bytes]:
    return [OK + b"transfer-encoding: chunked\r\n\r\n", *[b"%x\r\n%s\r\n" % (len(part), part)] * count]


SLOW = {
    "a byte of the headers now and then": Reply(raw=[b"H"] * 500, pause_s=0.05),
    "a byte of the body now and then": Reply(raw=chunked(b"x", 500), pause_s=0.05),
    "early hints without an end": Reply(raw=[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 500, pause_s=0.02),
}
LARGE = {
    "a body without an end": Reply(raw=chunked(b"x" * 65536, 500)),
    "a bomb of gzip": Reply(200, GZIP, gzip.compress(b"\0" * 200_000_000, 9)),
}
WRONG = {
    "headers without an end": Reply(raw=[OK, *[b"a: " + b"x" * 5000 + b"\r\n"] * 100]),
    "no gzip": Reply(200, GZIP, b"no gzip at all"),
    "gzip that ends too early": Reply(200, GZIP, gzip.compress(b"x" * 99)[:-9]),
    "an encoding that was not asked for": Reply(200, {"content-encoding": "br"}, b"xx"),
    "two content lengths": Reply(raw=[OK + b"content-length: 9\r\ncontent-length: 5\r\n\r\nshort"]),
    "a content length below zero": Reply(raw=[OK + b"content-length: -5\r\n\r\nshort"]),
    "another protocol": Reply(raw=[b"220 smtp.example.com ESMTP\r\n\r\n"]),
    "a switch of protocols": Reply(raw=[b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"]),
    "html instead of json": Reply(200, JSON, b"<html>"),
    "json without an end": Reply(200, JSON, b"[" * 100_000),
    "json nested very deep": Reply(200, JSON, b"[" * 500 + b"]" * 500),
    "json that is no unicode": Reply(200, JSON, b'"\xff"'),
}
LOST = {
    "a content length that is too large": Reply(raw=[OK + b"content-length: 99\r\n\r\nshort"]),
    "half of a header": Reply(raw=[OK + b"content-le"]),
    "nothing at all": Reply(raw=[b""]),
}


async def failed(bench, answer, expected, timeout_s):
    async with peer(lambda _: answer) as shop:
        entry = await bench.connect({"base_url": shop.url}, retry=Retry(1), get={"path": "/a", "timeout_s": timeout_s})
        async with asyncio.timeout(timeout_s + 5):
            with pytest.raises(expected) as caught:
                await bench.invoke(entry, "get")
        assert "localhost" in caught.value.message or "answer" in caught.value.message
        return caught.value


@pytest.mark.parametrize("name", SLOW)
async def test_slowness_ends_with_the_operations_time(bench, name):
    await failed(bench, SLOW[name], CallTimeoutError, 1.0)


@pytest.mark.parametrize("name", LARGE)
async def test_size_ends_with_the_bound(bench, name):
    await failed(bench, LARGE[name], AnswerTooLargeError, 10.0)


@pytest.mark.parametrize("name", WRONG)
async def test_nonsense_is_called_so(bench, name):
    await failed(bench, WRONG[name], AnswerInvalidError, 10.0)


@pytest.mark.parametrize("name", LOST)
async def test_an_answer_that_breaks_off_is_no_answer(bench, name):
    error = await failed(bench, LOST[name], SystemUnavailableError, 10.0)
    assert not error.outcome_known


async def test_a_content_length_that_is_too_small_does_not_reach_the_next_answer(bench):
    raw = OK + b"content-type: text/plain\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nsmuggled"
    answers = iter([Reply(raw=[raw]), reply("mine")])
    async with peer(lambda _: next(answers)) as shop:
        entry = await bench.connect({"base_url": shop.url}, get={"path": "/a"})
        assert (await bench.invoke(entry, "get")).output == "ok"
        assert (await bench.invoke(entry, "get")).output == "mine"


async def test_a_tenant_that_waits_for_a_slow_system_waits_alone():
    def act_for(tenant):
        set_caller(Caller(tenant, f"tenants/{tenant}/principals/a", "spiffe://tiation.local/svc/orchestrator"))

    async def send(tenant, url, timeout_s):
        act_for(tenant)
        return await client.send(HttpRequest("GET", url, {}, timeout_s=timeout_s))

    async def tarpit(_):
        await asyncio.sleep(30)

    client = HttpClient(LOCAL)
    async with peer(tarpit) as slow, peer(lambda _: reply("quick")) as shop:
        waiting = [asyncio.create_task(send("mallory", slow.url, 20.0)) for _ in range(120)]
        await asyncio.sleep(0.5)
        assert len(slow.asked) == 25
        assert (await asyncio.create_task(send("alice", shop.url, 5.0))).status == 200
        with pytest.raises(RateLimitedError, match="under way already") as caught:
            await asyncio.create_task(send("mallory", shop.url, 0.2))
        assert caught.value.outcome_known
        assert caught.value.retry_after_s
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert (await asyncio.create_task(send("mallory", shop.url, 5.0))).status == 200
    await client.close()


async def test_connections_do_not_pile_up_after_failures(bench):
    async with peer(lambda _: WRONG["two content lengths"]) as shop:
        entry = await bench.connect({"base_url": shop.url}, retry=Retry(1), get={"path": "/a", "timeout_s": 5.0})
        for _ in range(120):  # more than a pool has
            with pytest.raises(AnswerInvalidError):
                await bench.invoke(entry, "get")
        assert shop.connections == 120
