"""OAuth 2 client credentials: one refresh however many ask, in however many processes; failures are clear errors."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from integration.errors import AnswerInvalidError, SystemRefusedError, SystemUnavailableError
from integration.ports import Target
from integration.store import IntegrationStore
from integration.tokens import Token, TokenKeeper, _key
from integration.vault import Vault
from tests.fakes.web import HangupError, Reply, peer, reply
from tests.unit.integration.conftest import bench_on, opened

CLIENT = {"client_id": "id:1", "client_secret": "s3cr%t"}
ROOT = Path(__file__).parents[3]


class Shop:
    """A token endpoint and an API that takes its newest token only."""

    def __init__(self, lifetime_s=3600, pause_s=0.0):
        self.given = 0
        self.lifetime_s = lifetime_s
        self.pause_s = pause_s
        self.forms = []

    async def __call__(self, asked):
        if asked.path == "/token":
            self.forms.append(asked)
            await asyncio.sleep(self.pause_s)
            self.given += 1
            return reply({"access_token": f"tok-{self.given}", "token_type": "Bearer", "expires_in": self.lifetime_s})
        if asked.headers.get("authorization") != f"Bearer tok-{self.given}":
            return reply("who?", 401)
        return reply(asked.path)


def config(shop, **auth):
    return {"base_url": shop.url, "auth": {"kind": "oauth2", "token_url": f"{shop.url}/token", **auth}}


async def test_a_token_is_fetched_once_and_kept_encrypted(bench, database):
    handler = Shop()
    async with peer(handler) as shop:
        entry = await bench.connect(config(shop, scope="a b", audience="shop"), CLIENT, get={"path": "/a"})
        outputs = await asyncio.gather(*(bench.invoke(entry, "get") for _ in range(12)))
        assert {done.output for done in outputs} == {"/a"}
        assert handler.given == 1
        asked = handler.forms[0]
        assert asked.body == b"grant_type=client_credentials&scope=a+b&audience=shop"
        assert asked.basic == "id%3A1:s3cr%25t"
    rows = await database.read(lambda c: c.execute(text("SELECT * FROM access_tokens")).mappings().all())
    assert len(rows) == 1
    assert "tok-1" not in str(rows)


async def test_the_client_may_be_named_in_the_form(bench):
    handler = Shop()
    async with peer(handler) as shop:
        entry = await bench.connect(config(shop, client_authentication="post"), CLIENT, get={"path": "/a"})
        await bench.invoke(entry, "get")
        assert handler.forms[0].body == b"grant_type=client_credentials&client_id=id%3A1&client_secret=s3cr%25t"
        assert "authorization" not in handler.forms[0].headers


async def test_a_token_is_renewed_before_it_expires(bench):
    handler = Shop(lifetime_s=1.0)  # a fifth of it is leeway
    async with peer(handler) as shop:
        entry = await bench.connect(config(shop), CLIENT, get={"path": "/a"})
        await bench.invoke(entry, "get")
        await asyncio.sleep(0.9)
        await bench.invoke(entry, "get")
        assert handler.given == 2
        assert all(asked.path == "/token" or asked.headers["authorization"] for asked in shop.asked)
        assert len(shop.asked) == 4  # no 401 was needed to find out


async def test_a_token_that_is_refused_is_renewed_once(bench):
    handler = Shop()
    async with peer(handler) as shop:
        entry = await bench.connect(config(shop), CLIENT, get={"path": "/a"})
        await bench.invoke(entry, "get")
        handler.given += 1  # revoked
        handler.forms.clear()
        outputs = await asyncio.gather(*(bench.invoke(entry, "get") for _ in range(8)))
        assert {done.output for done in outputs} == {"/a"}
        assert len(handler.forms) == 1


async def test_a_system_that_refuses_every_token_is_not_asked_without_an_end(bench):
    async with peer(lambda asked: reply({"access_token": "x"}) if asked.path == "/token" else reply("", 401)) as shop:
        entry = await bench.connect(config(shop), CLIENT, get={"path": "/a"})
        with pytest.raises(SystemRefusedError, match="401"):
            await bench.invoke(entry, "get")
        assert [asked.path for asked in shop.asked] == ["/token", "/a", "/token", "/a"]


async def test_another_revision_of_the_connection_has_another_token(bench):
    handler = Shop()
    async with peer(handler) as shop:
        for revision in (1, 2):
            entry = await bench.connect(config(shop), CLIENT, revision=revision, get={"path": "/a"})
            await bench.invoke(entry, "get")
        assert handler.given == 2


async def hang_up(_):
    raise HangupError


FAILURES = {
    "the client is refused": (
        lambda _: reply({"error": "invalid_client", "error_description": "no such client s3cr%t"}, 401),
        SystemRefusedError,
        r"refuses the client: invalid_client: no such client \[secret\]",
    ),
    "out of order": (lambda _: reply("", 503), SystemUnavailableError, "answers 503"),
    "html": (lambda _: Reply(200, {"content-type": "text/html"}, b"<html>"), AnswerInvalidError, "without an access"),
    "no token": (lambda _: reply({"token_type": "bearer"}), AnswerInvalidError, "without an access_token"),
    "another kind": (
        lambda _: reply({"access_token": "x", "token_type": "mac"}), AnswerInvalidError, "not `bearer`",
    ),
    "a token with a line break": (
        lambda _: reply({"access_token": "x\r\ny: z"}), AnswerInvalidError, "without an access_token",
    ),
    "expired": (lambda _: reply({"access_token": "x", "expires_in": 0}), AnswerInvalidError, "expired already"),
    "gone": (hang_up, SystemUnavailableError, "no access token"),
    "redirect": (lambda _: Reply(302, {"location": "/x"}), SystemRefusedError, "answers 302"),
    "not found": (lambda _: reply("", 404), SystemRefusedError, "check token_url"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
async def test_a_token_endpoint_that_fails_gives_one_clear_error(bench, name):
    handler, expected, words = FAILURES[name]
    async with peer(handler) as shop:
        entry = await bench.connect(config(shop), CLIENT, get={"path": "/a"})
        with pytest.raises(expected, match=words) as caught:
            await bench.invoke(entry, "get", key="k")
        assert "s3cr" not in str(caught.value.args) + str(caught.value.metadata)
        assert caught.value.outcome_known  # the system itself was never asked
        assert {asked.path for asked in shop.asked} == {"/token"}


async def test_a_token_endpoint_that_is_slow_is_waited_for_no_longer_than_the_operation(bench):
    async with peer(Shop(pause_s=30)) as shop:
        entry = await bench.connect(config(shop), CLIENT, get={"path": "/a", "timeout_s": 0.5})
        async with asyncio.timeout(10):
            with pytest.raises(Exception, match=r"no access token within 0\.5 s"):
                await bench.invoke(entry, "get")


async def test_after_a_failed_refresh_the_next_one_may_begin_at_once(bench):
    answers = iter([reply("", 503), reply("", 503), reply("", 503), reply({"access_token": "x"}), reply("in")])
    async with peer(lambda _: next(answers)) as shop:
        entry = await bench.connect(config(shop), CLIENT, get={"path": "/a"})
        with pytest.raises(SystemUnavailableError):
            await bench.invoke(entry, "get")
        assert (await bench.invoke(entry, "get")).output == "in"


async def test_a_refused_refresh_looks_whether_somebody_else_was_faster(database, tmp_path):
    rows, target = IntegrationStore(), Target("tenants/default/connections/shop", 1, {}, CLIENT, "uid")
    keeper = TokenKeeper(database, rows, Vault(tmp_path / "vault.key"))

    async def faster():
        """Another process whose right to renew came after ours had run out."""
        sealed = keeper._vault.seal("default", f"{target.name}#access_token", {"access_token": "theirs"})
        now = time.time()
        await database.write(
            lambda c: c.execute(text("UPDATE access_tokens SET holder = 'other', held_until = 0")) and None
        )
        await database.write(lambda c: rows.keep_token(c, _key(target), "other", sealed, now + 60, now))
        raise SystemRefusedError("invalid_grant")

    assert await keeper.token(target, faster) == Token("theirs", 1)

    async def refused():
        raise SystemRefusedError("invalid_grant")

    with pytest.raises(SystemRefusedError):
        await keeper.token(target, refused, rejected=1)


CHILD = """
import asyncio, json, sys
from pathlib import Path
from mesh.sandbox import SandboxPool
from tests.unit.integration.conftest import bench_on, opened

async def main(url, key_file, shop):
    database, sandbox = opened(url), SandboxPool()
    bench = bench_on(database, sandbox, Path(key_file))
    config = {"base_url": shop, "auth": {"kind": "oauth2", "token_url": shop + "/token"}}
    client = {"client_id": "id:1", "client_secret": "s3cr%t"}
    entry = await bench.connect(config, client, get={"path": "/a"})
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    done = await asyncio.gather(*(bench.invoke(entry, "get") for _ in range(10)))
    print(json.dumps([each.output for each in done]), flush=True)
    await bench.connector.close()
    await sandbox.close()
    await database.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_two_processes_on_one_database_refresh_once(tmp_path):
    url, key = f"sqlite:///{tmp_path}/integration.db", str(tmp_path / "vault.key")
    await opened(url).close()
    handler = Shop(pause_s=0.3)
    async with peer(handler) as shop:
        Vault(tmp_path / "vault.key")
        children = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", CHILD, url, key, shop.url,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
            )
            for _ in range(2)
        ]  # fmt: skip
        async with asyncio.timeout(60):
            for child in children:
                assert await child.stdout.readline() == b"ready\n"
            for child in children:
                child.stdin.write(b"go\n")
                await child.stdin.drain()
            outputs = [json.loads(await child.stdout.readline()) for child in children]
            for child in children:
                child.stdin.close()
                await child.wait()
        assert outputs == [["/a"] * 10] * 2
        assert handler.given == 1


async def test_a_process_that_died_in_mid_refresh_is_waited_for_and_then_replaced(tmp_path, sandbox, monkeypatch):
    monkeypatch.setattr("integration.tokens._HELD_S", 1.0)
    database = opened(f"sqlite:///{tmp_path}/integration.db")
    bench = bench_on(database, sandbox, tmp_path / "vault.key")
    async with peer(Shop()) as shop:
        entry = await bench.connect(config(shop), CLIENT, get={"path": "/a"})
        target = bench.invoker.target(entry)
        now = asyncio.get_running_loop().time
        began = now()
        await database.write(
            lambda c: IntegrationStore().claim_token(c, _key(target), 0, "dead", time.time(), time.time() + 1.0)
        )
        assert (await bench.invoke(entry, "get")).output == "/a"
        assert now() - began >= 0.9
    await bench.connector.close()
    await database.close()
