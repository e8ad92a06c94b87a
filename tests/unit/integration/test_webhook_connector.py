"""The webhook connector against a real receiver that verifies with the specification's own library."""

from __future__ import annotations

import asyncio
import base64
import time
from datetime import UTC, datetime
from itertools import pairwise

import pytest
import standardwebhooks

from integration.adapters.egress import Guard
from integration.adapters.http_client import HttpClient
from integration.adapters.webhook import WebhookConnector
from integration.connections import Connection, ConnectionRules, Operation
from integration.effects import EffectLog
from integration.errors import (
    CredentialUnknownError,
    DeliveryDeferredError,
    EffectKeyReusedError,
    LocationForbiddenError,
    OperationInvalidError,
    RateLimitedError,
    SystemRefusedError,
)
from integration.invoke import Invoker
from integration.pacing import Pacer
from integration.store import IntegrationStore
from integration.vault import Vault
from mesh.entries import Entry
from tests.fakes.web import HangupError, Reply, peer, reply
from tests.unit.integration.conftest import LOCAL, NAME, QUICK, opened

SECRET = "whsec_" + base64.b64encode(b"a" * 24).decode()
OLD = "whsec_" + base64.b64encode(b"b" * 64).decode()


class Sending:
    """An invoker with nothing but the webhook connector."""

    def __init__(self, database, sandbox, folder, guard=LOCAL):
        rows, self.vault = IntegrationStore(), Vault(folder / "vault.key")
        self.client = HttpClient(guard)
        self.rules = ConnectionRules({"webhook": WebhookConnector(self.client)}, sandbox)
        self.invoker = Invoker(self.rules, self.vault, sandbox, Pacer(database, rows), EffectLog(database, rows))

    async def connect(self, url, credentials=None, effect="UNSAFE", config=None, **spec):
        given = {"secret": SECRET} if credentials is None else credentials
        operation = Operation("tell", spec, effect)
        connection = Connection(
            "webhook", {"url": url, **(config or {})}, self.vault.seal("default", NAME, given), tuple(given),
            (operation,), QUICK,
        )  # fmt: skip
        await self.rules.check(NAME, connection, given)
        now = datetime.now(UTC)
        return Entry(NAME, "uid-of-hook", 1, now, now, connection)

    async def tell(self, entry, value, key="", patience_s=30.0):
        return await self.invoker.invoke(entry, "tell", value, key, patience_s)


@pytest.fixture
async def sending(database, sandbox, tmp_path):
    made = Sending(database, sandbox, tmp_path)
    yield made
    await made.client.close()


def ids(receiver):
    return [asked.headers["webhook-id"] for asked in receiver.asked]


async def test_a_webhook_is_signed_so_that_the_specifications_library_accepts_it(sending):
    async with peer(lambda _: Reply(202)) as receiver:
        entry = await sending.connect(f"{receiver.url}/hooks?v=1", path="/orders", type="order.created")
        done = await sending.tell(entry, {"order": "ü", "count": 2.0}, "runs/r/1")
        asked = receiver.asked[0]
        assert (asked.method, asked.target) == ("POST", "/hooks/orders?v=1")
        assert asked.headers["content-type"] == "application/json"
        said = standardwebhooks.Webhook(SECRET).verify(asked.body, asked.headers)
        assert said == {"type": "order.created", "data": {"order": "ü", "count": 2}}
        assert done.output == {"id": asked.headers["webhook-id"], "status": 202}
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(OLD).verify(asked.body, asked.headers)


async def test_while_a_secret_is_changed_both_sign(sending):
    async with peer(lambda _: Reply(200)) as receiver:
        entry = await sending.connect(receiver.url, {"secret": SECRET, "previous_secret": OLD})
        await sending.tell(entry, [1])
        for secret in (SECRET, OLD):
            standardwebhooks.Webhook(secret).verify(receiver.asked[0].body, receiver.asked[0].headers)


@pytest.mark.parametrize("effect", ["NONE", "IDEMPOTENT", "UNSAFE"])
async def test_every_repeat_carries_the_same_id_whatever_went_wrong(sending, effect):
    def troubles():
        yield from (Reply(500), HangupError(), Reply(503), Reply(408), Reply(raw=[b""]), Reply(502))

    trouble = troubles()

    def answer(_):
        found = next(trouble, Reply(204))
        if isinstance(found, Exception):
            raise found
        return found

    async with peer(answer) as receiver:
        entry = await sending.connect(receiver.url, effect=effect)
        for _ in range(2):  # three attempts each, then the caller is told to come back
            with pytest.raises(DeliveryDeferredError) as caught:
                await sending.tell(entry, {}, "runs/r/1")
            assert caught.value.retry_after_s >= 5
            assert caught.value.metadata["attempts"] == "3"
        assert (await sending.tell(entry, {}, "runs/r/1")).output["status"] == 204
        assert len(receiver.asked) == 7
        assert len(set(ids(receiver))) == 1
        times = [int(asked.headers["webhook-timestamp"]) for asked in receiver.asked]
        assert all(before <= after for before, after in pairwise(times))
        again = await sending.tell(entry, {}, "runs/r/1")
        assert (again.replayed, len(receiver.asked)) == (True, 7)
        with pytest.raises(EffectKeyReusedError):
            await sending.tell(entry, {"other": 1}, "runs/r/1")
        await sending.tell(entry, {}, "runs/r/2")
        assert len(set(ids(receiver))) == 2


async def test_a_call_that_names_no_effect_gets_an_id_of_its_own_for_all_its_attempts(sending):
    answers = iter([Reply(500)])
    async with peer(lambda _: next(answers, Reply(200))) as receiver:
        entry = await sending.connect(receiver.url)
        await sending.tell(entry, {})
        await sending.tell(entry, {})
        first, repeat, second = ids(receiver)
        assert first == repeat != second


async def test_another_process_after_a_crash_sends_the_same_id(sending, sandbox, tmp_path):
    begun = asyncio.Event()

    async def never(_):
        begun.set()
        await asyncio.sleep(60)

    async with peer(never) as receiver:
        entry = await sending.connect(receiver.url)
        lost = asyncio.create_task(sending.tell(entry, {}, "runs/r/1"))
        await begun.wait()
        receiver.handler = lambda _: Reply(200)
        other_database = opened(f"sqlite:///{tmp_path}/integration.db")
        other = Sending(other_database, sandbox, tmp_path)
        done = await other.tell(entry, {}, "runs/r/1")
        assert ids(receiver) == [done.output["id"]] * 2
        lost.cancel()
        await other.client.close()
        await other_database.close()
        await asyncio.gather(lost, return_exceptions=True)


async def test_a_slow_receiver_is_given_up_and_deferred_for_longer_each_time(sending):
    async def slowly(_):
        await asyncio.sleep(30)

    async with peer(slowly) as receiver:
        entry = await sending.connect(receiver.url)
        waits = []
        for _ in range(2):
            with pytest.raises(DeliveryDeferredError) as caught:
                await sending.tell(entry, {}, "k", patience_s=1.0)
            waits.append(caught.value.retry_after_s)
        assert waits[0] < waits[1] <= 900
        assert len(set(ids(receiver))) == 1


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410, 422])
async def test_what_a_receiver_refuses_is_not_sent_again(sending, status):
    async with peer(lambda _: Reply(status, {"location": "/x"}, b"no: " + SECRET.encode())) as receiver:
        entry = await sending.connect(receiver.url)
        with pytest.raises(SystemRefusedError) as caught:
            await sending.tell(entry, {}, "k")
        assert caught.value.metadata["status"] == str(status)
        assert SECRET not in caught.value.message
        assert len(receiver.asked) == 1


async def test_a_busy_receiver_is_left_alone_for_as_long_as_it_says(sending):
    answers = iter([Reply(429, {"retry-after": "1"}), Reply(503, {"retry-after": "600"})])
    async with peer(lambda _: next(answers, Reply(200))) as receiver:
        entry = await sending.connect(receiver.url)
        began = time.monotonic()
        with pytest.raises(RateLimitedError) as caught:
            await sending.tell(entry, {}, "k")
        assert time.monotonic() - began >= 0.9
        assert caught.value.retry_after_s == 600
        assert len(set(ids(receiver))) == 1


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/x", "http://127.0.0.1:8080/x", "http://[::1]:8080/x", "http://10.0.0.1/"]
)
async def test_a_webhook_goes_nowhere_that_the_operator_has_not_allowed(database, sandbox, tmp_path, url):
    guarded = Sending(database, sandbox, tmp_path, Guard.of([], [], private=False))
    entry = await guarded.connect(url)
    with pytest.raises(LocationForbiddenError):
        await guarded.tell(entry, {}, "k")
    await guarded.client.close()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"credentials": {}}, CredentialUnknownError, "credentials.secret is missing"),
        ({"credentials": {"secret": "whsec_short"}}, OperationInvalidError, "connection.credentials.secret"),
        ({"credentials": {"secret": SECRET, "token": "x"}}, CredentialUnknownError, "no use for a credential `token`"),
        ({"url": "ftp://x.example"}, OperationInvalidError, "connection.config.url"),
        ({"url": "https://x.example/#a"}, OperationInvalidError, "connection.config.url"),
        ({"config": {"headers": {"Webhook-Id": "x"}}}, OperationInvalidError, "connection.config.headers"),
        ({"config": {"headers": {"Host": "x"}}}, OperationInvalidError, "connection.config.headers"),
        ({"config": {"secret": "x"}}, OperationInvalidError, "connection.config.secret"),
        ({"path": "/../admin"}, OperationInvalidError, "spec.path"),
        ({"path": "/a?b"}, OperationInvalidError, "spec.path"),
        ({"type": "order created"}, OperationInvalidError, "spec.type"),
    ],
)
async def test_a_webhook_that_cannot_work_is_refused_by_its_field(sending, change, error, words):
    with pytest.raises(error) as caught:
        await sending.connect(**{"url": "https://x.example", **change})
    assert words in caught.value.message


async def test_testing_reaches_for_the_receiver_and_sends_nothing(sending):
    async with peer(lambda _: reply(None, 405)) as receiver:
        entry = await sending.connect(receiver.url)
        assert "answers 405; no webhook was sent" in await sending.invoker.test(entry)
        assert [asked.method for asked in receiver.asked] == ["HEAD"]
