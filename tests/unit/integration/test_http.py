"""The http connector against a real server: requests as the manifest says, answers as values, failures as one error."""

from __future__ import annotations

import asyncio

import pytest

from integration.connections import Retry
from integration.errors import (
    CredentialUnknownError,
    ExpressionFailedError,
    LocationForbiddenError,
    OutcomeUnknownError,
    SystemRefusedError,
    SystemUnavailableError,
)
from tests.fakes.web import HangupError, Reply, certificates, peer, reply


async def test_a_request_is_made_as_the_manifest_says_and_the_answer_is_a_value(bench):
    async with peer(lambda asked: reply({"order": {"id": "o-1", "total": 9.5}}, 201)) as shop:
        entry = await bench.connect(
            {"base_url": f"{shop.url}/api/v2", "headers": {"x-shop": "one"}},
            create={
                "method": "POST",
                "path": "/customers/{customer}/orders",
                "query": {"dry": "${ .dry }", "tag": ["a", "b"], "left_out": "${ .nothing }"},
                "headers": {"x-source": "${ .source }"},
                "body": {"lines": "${ .lines }", "currency": "EUR"},
                "expect": [201],
                "output": ".order.id",
                "input": '. + {source: "mail"}',
                "effect": "UNSAFE",
            },
        )
        given = {"customer": "a/b ?ü", "dry": True, "lines": [{"sku": "x", "count": 2.0}]}
        done = await bench.invoke(entry, "create", given)
        assert done.output == "o-1"
        asked = shop.asked[0]
        assert asked.target == "/api/v2/customers/a%2Fb%20%3F%C3%BC/orders?dry=true&tag=a&tag=b"
        assert (asked.headers["x-shop"], asked.headers["x-source"]) == ("one", "mail")
        assert asked.headers["content-type"] == "application/json"
        assert asked.body == b'{"lines":[{"sku":"x","count":2}],"currency":"EUR"}'


async def test_a_form_and_a_text_are_sent_as_what_they_are(bench):
    async with peer(lambda asked: reply(asked.body.decode())) as shop:
        entry = await bench.connect(
            {"base_url": shop.url},
            form={"method": "POST", "path": "/f", "form": {"a": "${ .a }", "b": [1, 2]}},
            text={"method": "PUT", "path": "/t", "headers": {"content-type": "text/csv"}, "body": "${ .csv }"},
        )
        assert (await bench.invoke(entry, "form", {"a": "x y"})).output == "a=x+y&b=1&b=2"
        assert (await bench.invoke(entry, "text", {"csv": "a,b\n"})).output == "a,b\n"


async def test_answers_that_are_no_json_come_as_text_or_base64_and_large_numbers_as_text(bench):
    answers = {
        "/text": Reply(200, {"content-type": "text/plain; charset=latin-1"}, "grün".encode("latin-1")),
        "/bytes": Reply(200, {"content-type": "application/pdf"}, b"\xff\xfe\x00"),
        "/none": Reply(204),
        "/big": Reply(
            200, {"content-type": "application/problem+json"}, b'{"id": 12345678901234567890, "n": [1.5, 7]}'
        ),
    }
    async with peer(lambda asked: answers[asked.path]) as shop:
        entry = await bench.connect(
            {"base_url": shop.url},
            **{name: {"path": f"/{name}"} for name in ("text", "bytes", "none", "big")},
            full={"path": "/text", "response": "full"},
        )
        outputs = [(await bench.invoke(entry, name)).output for name in ("text", "bytes", "none", "big")]
        assert outputs == ["grün", "//4A", None, {"id": "12345678901234567890", "n": [1.5, 7]}]
        full = (await bench.invoke(entry, "full")).output
        assert (full["status"], full["body"], full["headers"]["content-length"]) == (200, "grün", "4")


@pytest.mark.parametrize("value", [{}, {"id": ""}, {"id": ".."}, {"id": {"a": 1}}, None, [1]])
async def test_a_path_takes_only_what_can_be_one_segment(bench, value):
    async with peer(lambda _: reply()) as shop:
        entry = await bench.connect({"base_url": shop.url}, get={"path": "/a/{id}"})
        with pytest.raises(SystemRefusedError, match="`id`"):
            await bench.invoke(entry, "get", value)
        assert not shop.asked


async def test_what_a_status_means_is_told_and_secrets_of_ours_are_not(bench):
    config = {"auth": {"kind": "api_key", "in": "query", "name": "key"}}
    async with peer(lambda asked: reply({"why": f"bad key {asked.query['key']}"}, 403)) as shop:
        entry = await bench.connect({"base_url": shop.url, **config}, {"key": "s3cret/key"}, get={"path": "/a"})
        with pytest.raises(SystemRefusedError) as caught:
            await bench.invoke(entry, "get")
        assert "403" in caught.value.message
        assert "bad key [secret]" in caught.value.message
        assert "s3cret" not in str(caught.value.args) + str(caught.value.metadata)
    with pytest.raises(SystemUnavailableError) as gone:
        await bench.invoke(entry, "get")
    assert "s3cret" not in str(gone.value.args) + str(gone.value.metadata)


async def test_the_first_rule_that_fits_decides_whatever_the_status(bench):
    rules = [
        {"status": [409], "when": '${ .body.code == "duplicate" }', "as": "refused", "message": "${ .body.text }"},
        {"when": "${ .body.ok == false }", "as": "refused", "message": '${ "shop says \\(.body.error)" }'},
        {"status": [418], "as": "retryable", "message": "a teapot"},
    ]
    answers = iter(
        [
            reply({"code": "duplicate", "text": "there already"}, 409),
            reply({"ok": False, "error": "no stock"}),
            *[reply(["no object"], 418)] * 3,
            reply({"ok": True}),
        ]
    )
    async with peer(lambda _: next(answers)) as shop:
        entry = await bench.connect({"base_url": shop.url, "errors": rules}, get={"path": "/a"})
        with pytest.raises(SystemRefusedError, match=r"^there already$"):
            await bench.invoke(entry, "get")
        with pytest.raises(SystemRefusedError, match=r"^shop says no stock$"):
            await bench.invoke(entry, "get")
        with pytest.raises(SystemUnavailableError, match=r"^a teapot$") as caught:
            await bench.invoke(entry, "get")
        assert caught.value.metadata["attempts"] == "3"
        assert (await bench.invoke(entry, "get")).output == {"ok": True}


async def test_failures_that_may_pass_are_tried_again(bench):
    answers = iter([reply("away", 502), reply("busy", 500), reply("here")])
    async with peer(lambda _: next(answers)) as shop:
        entry = await bench.connect({"base_url": shop.url}, get={"path": "/a"})
        done = await bench.invoke(entry, "get")
        assert (done.output, done.attempts) == ("here", 3)


async def test_an_expression_that_fails_is_said_before_anything_is_sent(bench):
    async with peer(lambda _: reply()) as shop:
        entry = await bench.connect(
            {"base_url": shop.url}, post={"method": "POST", "path": "/a", "body": "${ .a.b }", "effect": "UNSAFE"}
        )
        with pytest.raises(ExpressionFailedError) as caught:
            await bench.invoke(entry, "post", {"a": 7}, "k")
        assert caught.value.reason == "JQ_RUNTIME"
        assert not shop.asked
        assert not (await bench.invoke(entry, "post", {"a": {"b": 1}}, "other")).replayed
        assert not (await bench.invoke(entry, "post", {"a": {"b": 1}}, "k")).replayed  # nothing of it was kept


# Effects.


async def test_an_effect_key_is_sent_along_and_the_answer_is_given_again(bench):
    async with peer(lambda _: reply({"n": len(shop.asked)})) as shop:
        entry = await bench.connect(
            {"base_url": shop.url, "idempotency_header": "X-Request-Id"},
            pay={"method": "POST", "path": "/pay", "body": "${ . }", "effect": "IDEMPOTENT"},
        )
        first = await bench.invoke(entry, "pay", {"a": 1}, "runs/r1/do/0/pay#1/effect")
        again = await bench.invoke(entry, "pay", {"a": 1}, "runs/r1/do/0/pay#1/effect")
        assert (first.output, first.replayed) == ({"n": 1}, False)
        assert (again.output, again.replayed) == ({"n": 1}, True)
        assert shop.asked[0].headers["x-request-id"] == "runs/r1/do/0/pay#1/effect"
        await bench.invoke(entry, "pay", {"a": 1}, "ü" * 300)
        assert len(shop.asked[1].headers["x-request-id"]) == 36


async def test_attempts_of_one_call_without_a_key_carry_the_same_one(bench):
    answers = iter([reply("", 502), reply("done")])
    async with peer(lambda _: next(answers)) as shop:
        entry = await bench.connect(
            {"base_url": shop.url}, pay={"method": "POST", "path": "/pay", "body": {}, "effect": "IDEMPOTENT"}
        )
        assert (await bench.invoke(entry, "pay")).attempts == 2
        keys = {asked.headers["idempotency-key"] for asked in shop.asked}
        assert len(keys) == 1


async def hang_up(_):
    raise HangupError


async def too_late(_):
    await asyncio.sleep(30)
    return reply()


@pytest.mark.parametrize("last", [502, 503])
async def test_who_named_an_effect_that_may_have_happened_is_not_told_to_try_again(bench, last):
    """Under the key of another try, which a flow's `retry` would take, it would happen twice."""
    answers = iter([reply("", 502), reply("", last), reply("done")])
    async with peer(lambda _: next(answers)) as shop:
        entry = await bench.connect(
            {"base_url": shop.url},
            retry=Retry(2, 0.01, 0.02),
            pay={"method": "POST", "path": "/pay", "body": {}, "effect": "IDEMPOTENT"},
        )
        with pytest.raises(OutcomeUnknownError, match="may have happened"):
            await bench.invoke(entry, "pay", key="k")
        assert (await bench.invoke(entry, "pay", key="k")).output == "done"  # under its own key it may be asked for
        assert {asked.headers["idempotency-key"] for asked in shop.asked} == {"k"}


@pytest.mark.parametrize(
    "handler", [hang_up, too_late, lambda _: reply("gateway", 504), lambda _: Reply(raw=[b"HTTP/1.1 200 OK\r\n"])]
)
async def test_what_must_not_happen_twice_and_may_have_happened_is_never_repeated(bench, handler):
    async with peer(handler) as shop:
        entry = await bench.connect(
            {"base_url": shop.url},
            pay={"method": "POST", "path": "/pay", "body": {}, "effect": "UNSAFE", "timeout_s": 0.5},
        )
        with pytest.raises(OutcomeUnknownError, match="may have happened"):
            await bench.invoke(entry, "pay", key="k")
        assert len(shop.asked) == 1
        with pytest.raises(OutcomeUnknownError, match="before"):  # nor when the run comes back after a crash
            await bench.invoke(entry, "pay", key="k")
        assert len(shop.asked) == 1


async def test_what_certainly_did_not_happen_is_tried_again_even_if_it_must_not_happen_twice(bench):
    async with peer(lambda _: reply("done")) as shop:
        entry = await bench.connect(
            {"base_url": shop.url}, pay={"method": "POST", "path": "/pay", "body": {}, "effect": "UNSAFE"}
        )
        port = shop.port
    with pytest.raises(SystemUnavailableError, match="cannot be reached") as caught:
        await bench.invoke(entry, "pay", key="k")
    assert caught.value.metadata["attempts"] == "3"
    server = await asyncio.start_server(shop.serve, "127.0.0.1", port)
    async with server:
        assert (await bench.invoke(entry, "pay", key="k")).output == "done"


async def test_what_must_not_happen_twice_gets_a_connection_of_its_own(bench):
    async with peer(lambda _: reply("done")) as shop:
        entry = await bench.connect(
            {"base_url": shop.url},
            pay={"method": "POST", "path": "/pay", "body": {}, "effect": "UNSAFE"},
            look={"path": "/look"},
        )
        for _ in range(3):
            await bench.invoke(entry, "look")
        assert shop.connections == 1
        for _ in range(3):
            await bench.invoke(entry, "pay")
        assert shop.connections == 4


# TLS, redirects, credentials.


async def test_tls_is_checked_against_the_authority_that_the_manifest_names(bench):
    ca, tls = certificates("localhost")
    other, _ = certificates("localhost")
    async with peer(lambda _: reply("secure"), tls) as shop:
        good = await bench.connect({"base_url": shop.url, "ca": ca}, get={"path": "/a"})
        assert (await bench.invoke(good, "get")).output == "secure"
        for config in ({"ca": other}, {}, {"ca": ca, "base_url": f"https://127.0.0.1:{shop.port}"}):
            entry = await bench.connect({"base_url": shop.url} | config, get={"path": "/a"})
            with pytest.raises(SystemRefusedError, match=r"certificate of .* is not trusted"):
                await bench.invoke(entry, "get")


async def test_a_redirect_is_no_answer_unless_it_may_be_followed(bench):
    def handler(asked):
        return Reply(302, {"location": "/b?x=1"}) if asked.path == "/a" else reply(asked.target)

    async with peer(handler) as shop:
        entry = await bench.connect({"base_url": shop.url}, get={"path": "/a"})
        with pytest.raises(SystemRefusedError, match="redirects"):
            await bench.invoke(entry, "get")
        entry = await bench.connect({"base_url": shop.url, "follow_redirects": True}, get={"path": "/a"})
        assert (await bench.invoke(entry, "get")).output == "/b?x=1"


async def test_credentials_do_not_go_along_to_another_host(bench):
    async with peer(lambda asked: reply(dict(asked.headers))) as other:
        target = f"http://127.0.0.1:{other.port}/x"
        async with peer(lambda _: Reply(307, {"location": target})) as shop:
            config = {"base_url": shop.url, "auth": {"kind": "bearer"}, "follow_redirects": True}
            entry = await bench.connect(
                config | {"headers": {"x-shop-key": "mine"}}, {"token": "tok3n"}, get={"path": "/a"}
            )
            await bench.invoke(entry, "get")
            assert shop.asked[0].headers["authorization"] == "Bearer tok3n"
            assert not {"authorization", "x-shop-key"} & other.asked[0].headers.keys()


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "file:///etc/passwd", "http://10.0.0.1/"],
)
async def test_a_redirect_to_a_forbidden_place_is_refused(bench, target):
    async with peer(lambda _: Reply(302, {"location": target})) as shop:
        entry = await bench.connect({"base_url": shop.url, "follow_redirects": True}, get={"path": "/a"})
        with pytest.raises(LocationForbiddenError):
            await bench.invoke(entry, "get")


async def test_redirects_that_go_round_end(bench):
    async with peer(lambda _: Reply(302, {"location": "/a"})) as shop:
        entry = await bench.connect({"base_url": shop.url, "follow_redirects": True}, get={"path": "/a"})
        with pytest.raises(SystemRefusedError, match="redirects"):
            await bench.invoke(entry, "get")
        assert len(shop.asked) == 6


@pytest.mark.parametrize(
    ("auth", "credentials", "header"),
    [
        ({"kind": "basic"}, {"username": "me", "password": "p:w"}, ("authorization", "Basic bWU6cDp3")),
        ({"kind": "bearer"}, {"token": "abc"}, ("authorization", "Bearer abc")),
        ({"kind": "api_key", "name": "X-Key", "prefix": "v1 "}, {"key": "abc"}, ("x-key", "v1 abc")),
    ],
)
async def test_credentials_are_sent_where_the_manifest_says(bench, auth, credentials, header):
    async with peer(lambda _: reply()) as shop:
        entry = await bench.connect({"base_url": shop.url, "auth": auth}, credentials, get={"path": "/a"})
        await bench.invoke(entry, "get")
        assert shop.asked[0].headers[header[0]] == header[1]
        with pytest.raises(CredentialUnknownError, match="is missing"):
            await bench.connect({"base_url": shop.url, "auth": auth}, get={"path": "/a"})
        with pytest.raises(CredentialUnknownError, match="no use for a credential `other`"):
            await bench.connect({"base_url": shop.url, "auth": auth}, credentials | {"other": "x"}, get={"path": "/a"})


async def test_the_test_of_a_connection_says_what_it_found(bench):
    answers = iter([reply("fine"), reply("who?", 401), reply("nothing here", 404)])
    async with peer(lambda _: next(answers)) as shop:
        entry = await bench.connect({"base_url": f"{shop.url}/v1", "test": {"path": "/health"}})
        assert await bench.invoker.test(entry) == "localhost answers 200"
        assert shop.asked[0].path == "/v1/health"
        for _ in range(2):
            with pytest.raises(SystemRefusedError, match=r"40[14]"):
                await bench.invoker.test(entry)
