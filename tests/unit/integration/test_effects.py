"""Effects that were begun: ended though the caller is gone, shared by whoever asks meanwhile, never begun twice."""

from __future__ import annotations

import asyncio

import pytest

from integration.effects import EffectLog
from integration.errors import EffectKeyReusedError, OutcomeUnknownError, SystemUnavailableError
from integration.ports import Answer, Effect
from integration.store import IntegrationStore
from tests.fakes.web import peer, reply
from tests.unit.integration.conftest import bench_on, opened

PAY = {"method": "POST", "path": "/pay", "body": "${ . }", "effect": "UNSAFE", "timeout_s": 5.0}
EFFECT = Effect("tenants/default/connections/shop|k", "digest")


class Slow:
    """A system that takes its time, and counts."""

    def __init__(self):
        self.asked = 0
        self.may_answer = asyncio.Event()

    async def __call__(self, _):
        self.asked += 1
        await self.may_answer.wait()
        return reply({"n": self.asked})


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_was_begun_is_ended_though_the_caller_is_gone(bench):
    slow = Slow()
    async with peer(slow) as shop:
        entry = await bench.connect({"base_url": shop.url}, pay=PAY)
        gone = asyncio.create_task(bench.invoke(entry, "pay", {"a": 1}, "k"))
        await until(lambda: slow.asked)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        again = asyncio.create_task(bench.invoke(entry, "pay", {"a": 1}, "k"))
        await asyncio.sleep(0.1)
        slow.may_answer.set()
        done = await again
        assert (done.output, done.replayed) == ({"n": 1}, True)
        assert (await bench.invoke(entry, "pay", {"a": 1}, "k")).output == {"n": 1}
        assert slow.asked == 1


async def test_those_who_ask_at_once_share_one_effect(bench):
    slow = Slow()
    async with peer(slow) as shop:
        entry = await bench.connect({"base_url": shop.url}, pay=PAY)
        asking = [asyncio.create_task(bench.invoke(entry, "pay", {"a": 1}, "k")) for _ in range(8)]
        await until(lambda: slow.asked)
        with pytest.raises(EffectKeyReusedError):
            await bench.invoke(entry, "pay", {"a": 2}, "k")
        slow.may_answer.set()
        done = await asyncio.gather(*asking)
        assert [each.output for each in done] == [{"n": 1}] * 8
        assert sum(not each.replayed for each in done) == 1
        assert slow.asked == 1


async def test_another_process_does_not_begin_what_one_has_begun(bench, database, tmp_path, sandbox):
    slow = Slow()
    other_database = opened(str(database.engine.url))
    other = bench_on(other_database, sandbox, tmp_path / "vault.key")
    async with peer(slow) as shop:
        entry = await bench.connect({"base_url": shop.url}, pay=PAY)
        first = asyncio.create_task(bench.invoke(entry, "pay", {"a": 1}, "k"))
        await until(lambda: slow.asked)
        with pytest.raises(OutcomeUnknownError):
            await other.invoke(entry, "pay", {"a": 1}, "k")
        slow.may_answer.set()
        await first
        assert (await other.invoke(entry, "pay", {"a": 1}, "k")).replayed
        assert slow.asked == 1
    await other.connector.close()
    await other_database.close()


async def test_a_log_that_closes_waits_for_what_is_under_way(database):
    log = EffectLog(database, IntegrationStore())
    asked = []

    async def ask():
        asked.append(1)
        await asyncio.sleep(0.2)
        return Answer({"done": True})

    waiting = asyncio.create_task(log.once(EFFECT, ask, repeatable=False))
    await until(lambda: asked)
    await log.close()
    assert (await waiting).output == {"done": True}
    assert (await EffectLog(database, IntegrationStore()).once(EFFECT, ask, repeatable=False)).replayed


async def test_what_did_not_happen_is_forgotten_and_what_is_not_known_is_not(database):
    log = EffectLog(database, IntegrationStore())

    def failing(*, known):
        async def ask():
            error = SystemUnavailableError("gone")
            error.outcome_known = known
            raise error

        return ask

    for _ in range(2):
        with pytest.raises(SystemUnavailableError):
            await log.once(EFFECT, failing(known=True), repeatable=False)
    with pytest.raises(SystemUnavailableError):
        await log.once(EFFECT, failing(known=False), repeatable=False)
    for _ in range(2):
        with pytest.raises(OutcomeUnknownError):
            await log.once(EFFECT, failing(known=True), repeatable=False)


async def test_old_answers_are_forgotten(database):
    rows = IntegrationStore()

    async def ask():
        return Answer(None)

    await EffectLog(database, rows, lambda: 1000.0).once(EFFECT, ask, repeatable=False)
    await database.write(lambda transaction: rows.forget(transaction, before=1000.0))
    assert (await EffectLog(database, rows).once(EFFECT, ask, repeatable=False)).replayed
    await database.write(lambda transaction: rows.forget(transaction, before=1000.1))
    assert not (await EffectLog(database, rows).once(EFFECT, ask, repeatable=False)).replayed
