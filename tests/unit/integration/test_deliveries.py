"""What webhooks have accepted becomes one run each: tried again while it may pass, given up where it cannot."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from integration.deliveries import Deliveries, Delivery
from integration.errors import WebhookBusyError
from integration.store import DeliveryStore
from mesh.errors import Code
from mesh.identity import Requester
from mesh.status import RemoteError
from tests.fakes.background import running

HOOK = "tenants/default/webhooks/hook"
REQUESTER = Requester("default", "tenants/default/principals/p", HOOK, role="operator", uid="01a2")


@dataclass
class FakeRuns:
    """An orchestrator that starts each run once."""

    answers: list[RemoteError] = field(default_factory=list)
    asked: list[Delivery] = field(default_factory=list)

    async def start(self, delivery):
        self.asked.append(delivery)
        if self.answers:
            raise self.answers.pop(0)

    def names(self):
        return [delivery.run.rpartition("/")[2] for delivery in self.asked]


def delivery(number=1, given=None, received=1.0):
    run = f"tenants/default/agents/a/runs/r{number}"
    return Delivery(f"uid/{number}", HOOK, run, REQUESTER, {"n": 1.5} if given is None else given, received)


def refusal(code, reason="X"):
    return RemoteError(code, reason, "orchestrator.tiation.dev", "no", None)


async def started(runs, count):
    async with asyncio.timeout(20):
        while len(runs.asked) < count:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)


async def test_a_delivery_is_accepted_once_and_started_once(database):
    runs = FakeRuns()
    deliveries = Deliveries(database, DeliveryStore(), runs)
    assert await deliveries.known("uid/1") is None
    names = await asyncio.gather(*(deliveries.accept(delivery()) for _ in range(20)))
    assert set(names) == {delivery().run} == {await deliveries.known("uid/1")}
    async with running(deliveries.run):
        await started(runs, 1)
        assert runs.asked == [delivery()]
        await deliveries.accept(delivery(2))
        await started(runs, 2)
    assert runs.names() == ["r1", "r2"]


async def test_what_was_accepted_in_an_earlier_life_is_started_in_the_next(database):
    rows = DeliveryStore()
    for number in range(40):
        await Deliveries(database, rows, FakeRuns()).accept(delivery(number))
    runs = FakeRuns()
    both = [Deliveries(database, rows, runs), Deliveries(database, rows, runs)]
    async with running(*(each.run for each in both)):
        await started(runs, 40)
    assert set(runs.names()) == {f"r{number}" for number in range(40)}
    later = FakeRuns()
    third = Deliveries(database, rows, later)
    async with running(third.run):
        await asyncio.sleep(0.2)
    assert later.asked == []


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        (refusal(Code.UNAVAILABLE), True),
        (refusal(Code.RESOURCE_EXHAUSTED), True),
        (refusal(Code.DEADLINE_EXCEEDED), True),
        (refusal(Code.FAILED_PRECONDITION), True),
        (refusal(Code.INTERNAL), True),
        (refusal(Code.UNAUTHENTICATED), True),
        (refusal(Code.UNAUTHENTICATED, "TOKEN_REVOKED"), False),
        (refusal(Code.PERMISSION_DENIED), False),
        (refusal(Code.NOT_FOUND), False),
        (refusal(Code.INVALID_ARGUMENT), False),
    ],
)
async def test_what_may_pass_is_tried_again_and_what_cannot_is_given_up(database, answer, again):
    runs = FakeRuns([answer])
    deliveries = Deliveries(database, DeliveryStore(), runs)
    await deliveries.accept(delivery())
    async with running(deliveries.run):
        if again:
            await started(runs, 2)
            assert [each.attempts for each in runs.asked] == [0, 1]
        else:
            await asyncio.sleep(1)
            assert len(runs.asked) == 1
    assert await deliveries.known("uid/1") == delivery().run


async def test_one_that_waits_keeps_nobody_else_waiting(database):
    runs = FakeRuns([refusal(Code.UNAVAILABLE)] * 3)
    deliveries = Deliveries(database, DeliveryStore(), runs)
    await deliveries.accept(delivery(1))
    async with running(deliveries.run):
        await started(runs, 1)
        runs.answers.clear()
        await deliveries.accept(delivery(2))
        await started(runs, 3)
    assert runs.names() == ["r1", "r2", "r1"]


async def test_no_more_than_a_bound_wait_for_one_webhook(database):
    deliveries = Deliveries(database, DeliveryStore(), FakeRuns(), max_waiting=3)
    for number in range(3):
        await deliveries.accept(delivery(number))
    with pytest.raises(WebhookBusyError) as caught:
        await deliveries.accept(delivery(4))
    assert caught.value.retry_after_s == 30
    assert await deliveries.known("uid/4") is None


async def test_repeats_are_known_until_they_are_forgotten_and_what_waits_never_is(database):
    rows, runs = DeliveryStore(), FakeRuns()
    deliveries = Deliveries(database, rows, runs)
    await deliveries.accept(delivery(1, received=1.0))
    await deliveries.accept(delivery(2, received=3.0))
    async with running(deliveries.run):
        await started(runs, 2)
    await deliveries.accept(delivery(3, received=1.0))
    await database.write(lambda transaction: rows.forget(transaction, before=2.0))
    known = [await deliveries.known(f"uid/{number}") for number in (1, 2, 3)]
    assert [each is not None for each in known] == [False, True, True]
