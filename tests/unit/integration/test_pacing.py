"""Rate limits defer: calls wait their turn, together, and are told when to come back where they would not wait."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from integration.adapters.http_answer import retry_after
from integration.errors import RateLimitedError
from integration.pacing import Pacer
from integration.ports import Limits, Target
from integration.store import IntegrationStore
from tests.fakes.web import peer, reply
from tests.unit.integration.conftest import opened

TARGET = Target("tenants/default/connections/shop", 1, {}, {}, "uid")


async def test_calls_wait_their_turn(bench):
    arrivals = []

    def handler(_):
        arrivals.append(time.monotonic())
        return reply()

    async with peer(handler) as shop:
        entry = await bench.connect(
            {"base_url": shop.url, "limits": {"requests_per_second": 5}}, get={"path": "/a", "timeout_s": 5.0}
        )
        await asyncio.gather(*(bench.invoke(entry, "get") for _ in range(10)))
    assert len(arrivals) == 10
    assert arrivals[-1] - arrivals[0] >= 0.9  # five at once, then one each fifth of a second


async def test_two_processes_share_a_rate(tmp_path):
    url = f"sqlite:///{tmp_path}/integration.db"
    databases = [opened(url), opened(url)]
    pacers = [Pacer(database, IntegrationStore()) for database in databases]
    limits = Limits(rates=((10, 1.0),))
    passed = []

    async def pass_by(pacer):
        async with pacer.turn(TARGET, limits, 30.0):
            passed.append(time.monotonic())

    began = time.monotonic()
    await asyncio.gather(*(pass_by(pacers[number % 2]) for number in range(30)))
    assert max(passed) - began >= 1.9
    for database in databases:
        await database.close()


async def test_no_more_than_so_many_are_under_way(bench):
    under_way, most = 0, 0

    async def handler(_):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.05)
        under_way -= 1
        return reply()

    async with peer(handler) as shop:
        entry = await bench.connect({"base_url": shop.url, "limits": {"concurrency": 3}}, get={"path": "/a"})
        await asyncio.gather(*(bench.invoke(entry, "get") for _ in range(12)))
        assert most == 3


async def test_a_system_that_says_when_is_asked_again_then_by_all_calls(bench):
    answers = iter([reply("", 429, retry_after="1")])
    arrivals = []

    def handler(_):
        arrivals.append(time.monotonic())
        return next(answers, reply("done"))

    async with peer(handler) as shop:
        entry = await bench.connect({"base_url": shop.url}, get={"path": "/a", "timeout_s": 5.0})
        first = asyncio.create_task(bench.invoke(entry, "get"))
        while not arrivals:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)  # until its answer has been read
        second = await bench.invoke(entry, "get")
        assert ((await first).output, second.output) == ("done", "done")
        assert arrivals[1] - arrivals[0] >= 0.9


async def test_a_wait_beyond_the_callers_time_is_an_error_that_says_how_long(bench):
    async with peer(lambda _: reply("", 429, retry_after="120")) as shop:
        entry = await bench.connect(
            {"base_url": shop.url},
            get={"path": "/a", "timeout_s": 1.0},
            pay={"method": "POST", "path": "/a", "body": {}, "effect": "UNSAFE", "timeout_s": 1.0},
        )
        for operation in ("get", "pay", "get"):
            async with asyncio.timeout(5):
                with pytest.raises(RateLimitedError) as caught:
                    await bench.invoke(entry, operation, key="k", patience_s=10.0)
            assert 110 < caught.value.retry_after_s <= 120
            assert caught.value.outcome_known
        assert len(shop.asked) == 1  # the others were not sent at all


async def test_a_deferred_effect_may_be_asked_for_again(bench):
    answers = iter([reply("", 503, retry_after="1"), reply("done")])
    async with peer(lambda _: next(answers)) as shop:
        entry = await bench.connect(
            {"base_url": shop.url},
            pay={"method": "POST", "path": "/a", "body": {}, "effect": "UNSAFE", "timeout_s": 1.0},
        )
        with pytest.raises(RateLimitedError) as caught:
            await bench.invoke(entry, "pay", key="k", patience_s=1.5)
        await asyncio.sleep(caught.value.retry_after_s)
        assert (await bench.invoke(entry, "pay", key="k")).output == "done"


async def test_our_own_limit_beyond_the_callers_time_is_an_error_that_uses_nothing_up(bench):
    async with peer(lambda _: reply()) as shop:
        entry = await bench.connect(
            {"base_url": shop.url, "limits": {"requests_per_minute": 2}}, get={"path": "/a", "timeout_s": 1.0}
        )
        await asyncio.gather(bench.invoke(entry, "get"), bench.invoke(entry, "get"))
        waits = []
        for _ in range(5):
            with pytest.raises(RateLimitedError) as caught:
                await bench.invoke(entry, "get", patience_s=3.0)
            waits.append(caught.value.retry_after_s)
        assert max(waits) <= 30
        assert len(shop.asked) == 2


async def test_a_rule_of_the_manifest_may_say_that_it_is_a_limit_and_for_how_long(bench):
    rule = {
        "status": [403],
        "when": '${ .body.reason == "quota" }',
        "as": "rate_limited",
        "retry_after": "${ .body.s }",
    }
    answers = iter([reply({"reason": "quota", "s": 0.5}, 403), reply("done")])
    async with peer(lambda _: next(answers)) as shop:
        entry = await bench.connect({"base_url": shop.url, "errors": [rule]}, get={"path": "/a", "timeout_s": 2.0})
        began = time.monotonic()
        assert (await bench.invoke(entry, "get")).output == "done"
        assert time.monotonic() - began >= 0.45


async def test_a_limit_without_a_time_is_asked_again_with_growing_pauses(bench):
    answers = iter([*[reply("", 429)] * 6, reply("done")])
    async with peer(lambda _: next(answers)) as shop:
        entry = await bench.connect({"base_url": shop.url}, get={"path": "/a"})
        done = await bench.invoke(entry, "get")
        assert (done.output, done.attempts) == ("done", 7)


async def test_no_rule_of_a_manifest_has_a_call_wait_for_longer_than_a_day(bench):
    rule = {"status": [403], "as": "rate_limited", "retry_after": "${ .body.s }"}
    async with peer(lambda _: reply({"s": 300_000_000_000}, 403)) as shop:
        entry = await bench.connect({"base_url": shop.url, "errors": [rule]}, get={"path": "/a", "timeout_s": 2.0})
        with pytest.raises(RateLimitedError) as caught:
            await bench.invoke(entry, "get")
        assert caught.value.retry_after_s == 86_400.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "Wed, 01 Jan 2025 00:00:30 GMT"}, 30.0),
        ({"retry-after": "Wednesday, 01-Jan-25 00:00:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 01 Jan 2020 00:00:00 GMT"}, 0.0),
        ({"x-ratelimit-reset": "1735689630"}, 30.0),
        ({"ratelimit-reset": "12"}, 12.0),
        ({"retry-after": "soon", "x-rate-limit-reset": "3"}, 3.0),
        ({"retry-after": "300000000000"}, 86_400.0),
        ({"x-ratelimit-reset": "9e15"}, 86_400.0),
        ({"retry-after": "Fri, 31 Dec 9999 00:00:00 GMT"}, 86_400.0),
        ({"retry-after": "Fri, 31 Dec 99999999999999999999 00:00:00 GMT"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e999"}, None),
        ({}, None),
    ],
)
def test_what_a_server_says_of_time_is_understood(headers, seconds):
    assert retry_after(headers, datetime(2025, 1, 1, tzinfo=UTC)) == seconds
