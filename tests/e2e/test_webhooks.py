"""docs/webhooks.md, walked through the front door by senders that know nothing of us, and with SIGKILL in between."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import re
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import standardwebhooks

from tests.fakes.installed import CLONE, Installed, installed
from tests.fakes.web import HangupError, Reply, reply, serving

EXAMPLES = CLONE / "examples" / "webhooks"
RECEIVED = """
document: {{dsl: 1.0.0, namespace: default, name: {name}}}
do:
  - take:
      set: {{got: "${{ . }}"}}
"""
TELL = """
document: {dsl: 1.0.0, namespace: default, name: tell}
do:
  - tell:
      call: connect
      with: {connection: subscriber, operation: orderCreated, input: {order: "${ .order }"}}
"""
GITHUB_SECRET = "It's a Secret to Everybody"
SUBSCRIBER_SECRET = "whsec_" + "C" * 44
PUSH = b'{"ref": "refs/heads/main",  "repository": {"full_name": "octo/repo"}}\n'


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Installed]:
    home = tmp_path_factory.mktemp("webhooks") / "home"
    with installed(home, TIATION_INTEGRATION__ALLOWED_HOSTS="localhost") as made:
        for name in ("on-push", "on-order"):
            apply(made, home.parent, RECEIVED.format(name=name))
        yield made


def apply(here: Installed, folder: Path, flow: str) -> None:
    """Bring an agent."""
    file = folder / "agent.yaml"
    file.write_text(flow)
    here.command("agents", "apply", str(file))


@pytest.fixture(scope="module")
def github(here, tmp_path_factory) -> str:
    """GitHub's webhook, applied as the example says; the address to send to."""
    secret = tmp_path_factory.mktemp("secret") / "secret.txt"
    secret.write_text(GITHUB_SECRET + "\n")
    said = here.command("webhooks", "apply", str(EXAMPLES / "github.yaml"), "--secret", f"@{secret}").stdout
    assert said.startswith("tenants/default/webhooks/github created\nsend to  https://")
    assert "secret" not in said
    return said.split("send to  ")[1].strip()


@pytest.fixture(scope="module")
def orders(here) -> tuple[str, str]:
    """A webhook of the standard; the address and the secret, which was printed once."""
    said = here.command("webhooks", "apply", str(EXAMPLES / "orders.yaml")).stdout
    found = re.search(r"send to  (\S+)\nsecret   (whsec_\S+)\nIt is not shown again\.", said)
    assert found, said
    again = here.command("webhooks", "apply", str(EXAMPLES / "orders.yaml")).stdout
    assert again == "tenants/default/webhooks/orders unchanged\n"
    return found[1], found[2]


def curl(here: Installed, url: str, body: bytes, *headers: str) -> tuple[int, dict]:
    """What a sender gets that is nothing but curl."""
    asked = [each for header in headers for each in ("-H", header)]
    done = subprocess.run(
        ["curl", "-sS", "--cacert", str(here.home / "ca.pem"), "-w", "\n%{http_code}", "--data-binary", "@-", *asked,
         url],
        input=body, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    text, _, status = done.stdout.decode().rpartition("\n")
    return int(status), json.loads(text)


def of_github(body: bytes, delivery: str, secret: str = GITHUB_SECRET) -> tuple[str, ...]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return (
        "content-type: application/json", f"X-Hub-Signature-256: sha256={digest}", f"X-GitHub-Delivery: {delivery}",
    )  # fmt: skip


def of_standard(secret: str, message_id: str, body: bytes) -> dict[str, str]:
    now = datetime.now(UTC)
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(secret).sign(message_id, now, body.decode()),
    }


def ended(here: Installed, run: str, timeout_s: float = 60.0) -> dict:
    """A run at its end; it may not have begun yet."""
    deadline = time.monotonic() + timeout_s
    with here.rest() as client:
        while time.monotonic() < deadline:
            answer = client.get(f"/v1/{run}")
            if answer.status_code == 200 and answer.json()["state"] in ("SUCCEEDED", "FAILED", "CANCELLED"):
                return answer.json()
            time.sleep(0.1)
    raise AssertionError(f"{run} did not end: {answer.text}")


def reachable(here: Installed) -> None:
    """Wait until the front door has noticed that integration is back."""
    deadline = time.monotonic() + 30
    with here.rest("") as anyone:
        while anyone.post("/v1/tenants/default/webhooks/nothing:receive").status_code != 404:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def runs(here: Installed, agent: str) -> Counter:
    with here.rest() as client:
        answer = client.get(f"/v1/tenants/default/agents/{agent}/runs", params={"page_size": 1000}).json()
    return Counter(run["name"] for run in answer["runs"])


def test_curl_sends_raw_bytes_like_github_and_a_repeat_starts_nothing(here, github):
    status, answer = curl(here, github, PUSH, *of_github(PUSH, "d-1"))
    assert status == 200, answer
    run = ended(here, answer["run"])
    assert run["output"] == {"got": {"repository": "octo/repo", "ref": "refs/heads/main"}}
    assert curl(here, github, PUSH, *of_github(PUSH, "d-1")) == (200, answer)
    assert runs(here, "on-push") == {answer["run"]: 1}


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "application/vnd.github+json", "text/plain",
     "application/xml", "application/x-www-form-urlencoded", "application/octet-stream"],
)  # fmt: skip
def test_a_body_of_any_type_arrives_byte_for_byte(here, orders, content_type):
    url, secret = orders
    body = '{"data":   {"ü":\t1.0, "a": [1,2 , 3]}}\r\n\n'.encode()
    headers = of_standard(secret, f"msg_{hashlib.sha256(content_type.encode()).hexdigest()[:8]}", body)
    headers["content-type"] = content_type
    status, answer = curl(here, url, body, *(f"{name}: {text}" for name, text in headers.items()))
    if "json" in content_type:
        assert (status, ended(here, answer["run"])["output"]) == (200, {"got": {"ü": 1, "a": [1, 2, 3]}})
    else:  # the signature holds; the mapping wants JSON
        assert (status, answer["details"][0]["reason"]) == (400, "DELIVERY_INVALID"), answer


def test_whoever_has_not_signed_gets_the_same_answer_and_no_token_helps(here, orders):
    url, secret = orders
    body = b'{"data": 1}'
    good = of_standard(secret, "msg_refused", body)
    stale = {**good, "webhook-timestamp": "1614265330"}
    foreign = of_standard("whsec_" + "D" * 44, "msg_refused", body)
    answers = set()
    with here.rest() as operator, here.rest("") as anyone:
        for client in (operator, anyone):
            for headers, sent in ((stale, body), (foreign, body), (good, body + b" "), ({}, body), ({}, b"")):
                answer = client.post(url, headers=headers, content=sent)
                answers.add((answer.status_code, answer.text))
        assert len(answers) == 1
        status, text = answers.pop()
        assert (status, json.loads(text)["details"][0]["reason"]) == (401, "SIGNATURE_INVALID")
        elsewhere = {
            (answer.status_code, answer.text)
            for path in ("tenants/other/webhooks/orders", "tenants/default/webhooks/nothing")
            for answer in [anyone.post(f"/v1/{path}:receive", headers=good, content=body)]
        }
        assert [status for status, _ in elsewhere] == [404]
        assert anyone.get("/v1/tenants/default/webhooks/orders").status_code == 401


def test_bodies_that_are_too_large_are_refused_before_anybody_reads_them(here, orders, tmp_path):
    url, secret = orders
    for size in (1_048_577, 100 * 1024 * 1024):
        body = b'{"data": "' + b"x" * (size - 12) + b'"}'
        with here.rest("") as anyone:
            answer = anyone.post(url, headers=of_standard(secret, "msg_huge", body), content=body)
        assert (answer.status_code, answer.json()["details"][0]["reason"]) == (413, "LIMIT_EXCEEDED")
    body = json.dumps({"data": "x", "rest": "y" * 900_000}).encode()
    with here.rest("") as anyone:
        answer = anyone.post(url, headers=of_standard(secret, "msg_large", body), content=body)
    assert ended(here, answer.json()["run"])["output"] == {"got": "x"}


def test_a_disabled_webhook_is_not_there(here, orders, tmp_path):
    url, secret = orders
    file = tmp_path / "orders.yaml"
    file.write_text((EXAMPLES / "orders.yaml").read_text() + "disabled: true\n")
    here.command("webhooks", "apply", str(file))
    with here.rest("") as anyone:
        answer = anyone.post(url, headers=of_standard(secret, "msg_off", b"{}"), content=b"{}")
        assert (answer.status_code, answer.json()["details"][0]["reason"]) == (404, "WEBHOOK_UNKNOWN")
        here.command("webhooks", "apply", str(EXAMPLES / "orders.yaml"))
        assert anyone.post(url, headers=of_standard(secret, "msg_on", b"{}"), content=b"{}").status_code == 200


def test_the_command_shows_tries_and_deletes(here, github, orders, tmp_path):
    listed = here.command("webhooks", "list").stdout.splitlines()
    assert [line.split() for line in listed[1:]] == [
        ["tenants/default/webhooks/github", "tenants/default/agents/on-push", "HMAC_SHA256_HEX", "enabled"],
        ["tenants/default/webhooks/orders", "tenants/default/agents/on-order", "STANDARD", "enabled"],
    ]
    assert f"send to  {github}" in here.command("webhooks", "get", "github").stdout
    file = tmp_path / "push.json"
    file.write_bytes(PUSH)
    said = here.command("webhooks", "test", "github", "--body", f"@{file}", "--header", "X-GitHub-Delivery: d").stdout
    assert json.loads(said) == {"repository": "octo/repo", "ref": "refs/heads/main"}
    mistake = tmp_path / "wrong.yaml"
    mistake.write_text((EXAMPLES / "github.yaml").read_text().replace("input:", "imput:"))
    said = here.command("webhooks", "apply", str(mistake), check=False)
    assert "line 10: there is no `imput` here; did you mean `input`?" in said.stderr
    mistake.write_text((EXAMPLES / "orders.yaml").read_text().replace(".body.data", ".body |"))
    said = here.command("webhooks", "apply", str(mistake), check=False)
    assert f"{mistake}, line 4: input: jq program" in said.stderr
    gone = tmp_path / "gone.yaml"
    gone.write_text("name: gone\nagent: on-order\n")
    here.command("webhooks", "apply", str(gone))
    assert here.command("webhooks", "delete", "gone").stdout == "tenants/default/webhooks/gone deleted\n"


def test_one_run_starts_though_integration_is_killed_between_accepting_and_starting(here, orders):
    """The orchestrator stands still, so that what is accepted cannot have started; then integration dies."""
    url, secret = orders
    here.wait_serving()
    accepted = {}
    for kills in range(2):
        reachable(here)
        orchestrator = here.pid("orchestrator")
        os.kill(orchestrator, signal.SIGSTOP)
        try:
            with here.rest("") as anyone:
                for number in range(5):
                    body = json.dumps({"data": {"number": number}}).encode()
                    headers = of_standard(secret, f"msg_kill_{kills}_{number}", body)
                    answer = anyone.post(url, headers=headers, content=body)
                    assert answer.status_code == 200, answer.text
                    accepted[answer.json()["run"]] = number
            here.kill("integration")
            time.sleep(0.5)
        finally:
            os.kill(orchestrator, signal.SIGCONT)
        here.wait_serving()
    for run, number in accepted.items():
        assert ended(here, run)["output"] == {"got": {"number": number}}
    found = runs(here, "on-order")
    assert len(accepted) == 10
    assert {run: found[run] for run in accepted} == dict.fromkeys(accepted, 1)
    with sqlite3.connect(f"file:{here.home}/integration/integration.db?mode=ro", uri=True) as database:
        waiting = database.execute("SELECT count(*) FROM deliveries WHERE state = 'WAITING'").fetchone()[0]
    assert waiting == 0


# What we send.


class Subscriber:
    """A receiver that verifies with the library of the specification, and de-duplicates by id as it should."""

    def __init__(self) -> None:
        self.ids: dict[str, list[str]] = {}
        self.trouble: list[Reply | type[HangupError]] = []
        self.wrong: list[str] = []
        self.arrived = threading.Event()
        self.hold_s = 0.0

    async def __call__(self, asked):
        if asked.method != "POST":
            return reply(None)
        try:
            said = standardwebhooks.Webhook(SUBSCRIBER_SECRET).verify(asked.body, asked.headers)
        except standardwebhooks.WebhookVerificationError as error:
            self.wrong.append(f"{error}: {asked}")
            return Reply(401)
        self.ids.setdefault(said["data"]["order"], []).append(asked.headers["webhook-id"])
        self.arrived.set()
        await asyncio.sleep(self.hold_s)
        trouble = self.trouble.pop(0) if self.trouble else Reply(204)
        if isinstance(trouble, type):
            raise trouble
        return trouble


@pytest.fixture
def subscriber(here, tmp_path) -> Iterator[Subscriber]:
    here.wait_serving()  # a test before may have killed something
    made = Subscriber()
    with serving(made) as web:
        file = tmp_path / "subscriber.yaml"
        text = (EXAMPLES / "subscriber.yaml").read_text()
        file.write_text(text.replace("https://subscriber.example.com", web.url))
        here.command("connections", "apply", str(file), "--credential", f"secret={SUBSCRIBER_SECRET}")
        apply(here, tmp_path, TELL)
        yield made
        assert not made.wrong


def told(here: Installed, order: str) -> str:
    deadline = time.monotonic() + 30
    params = {"run_id": order}
    with here.rest() as client:
        while time.monotonic() < deadline:
            answer = client.post(
                "/v1/tenants/default/agents/tell/runs", params=params, json={"input": {"order": order}}
            )
            if answer.status_code == 200:
                return answer.json()["name"]
            time.sleep(0.1)
    raise AssertionError(answer.text)


def test_a_webhook_that_fails_is_repeated_with_the_same_id_and_then_deferred(here, subscriber):
    assert "localhost answers 200; no webhook was sent" in here.command("connections", "test", "subscriber").stdout
    subscriber.trouble = [Reply(500), HangupError, Reply(503), Reply(429, {"retry-after": "1"}), Reply(408)]
    run = ended(here, told(here, "o-1"))
    assert (run["state"], run["output"]["status"]) == ("SUCCEEDED", 204)
    assert len(subscriber.ids["o-1"]) == 6
    assert set(subscriber.ids["o-1"]) == {run["output"]["id"]}
    subscriber.trouble = [Reply(410)]
    run = ended(here, told(here, "o-2"))
    assert (run["state"], run["error"]["reason"]) == ("FAILED", "SYSTEM_REFUSED")
    assert "wants no more webhooks" in run["error"]["detail"]


@pytest.mark.parametrize("service", ["integration", "orchestrator"])
def test_no_webhook_without_its_repeat_carrying_the_same_id(here, subscriber, service):
    here.wait_serving()
    names = {}
    for number in range(6):
        order = f"{service}-{number}"
        subscriber.arrived.clear()
        subscriber.hold_s = 0.3
        names[order] = told(here, order)
        assert subscriber.arrived.wait(30)
        here.kill(service)
        subscriber.hold_s = 0.0
        here.wait_serving()
    for order, name in names.items():
        run = ended(here, name)
        assert run["state"] == "SUCCEEDED", run
        assert set(subscriber.ids[order]) == {run["output"]["id"]}
    assert len({identity for order in names for identity in subscriber.ids[order]}) == len(names)
    if service == "integration":
        assert any(len(subscriber.ids[order]) > 1 for order in names), "no kill has hit a delivery"
