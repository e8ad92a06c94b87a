"""The sql connector on a real PostgreSQL: every effect once, statements stopped in time, a server that dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from integration.adapters.egress import Guard
from integration.adapters.server_place import Servers
from integration.adapters.sql import SqlConnector
from integration.errors import (
    AnswerTooLargeError,
    CallTimeoutError,
    EffectKeyReusedError,
    LocationForbiddenError,
    SystemRefusedError,
    SystemUnavailableError,
)
from integration.ports import Effect, Target
from tests.fakes.ports import free_ports
from tests.fakes.postgres import PASSWORD
from tests.unit.integration.conftest import LOCAL

INSERT = {"statement": "INSERT INTO t (id, v) VALUES (:id, :v)"}
ALL = {"statement": "SELECT id, v FROM t ORDER BY id"}
CREDENTIALS = {"username": "tiation", "password": PASSWORD}


@pytest.fixture
def target(postgres):
    """A database with a table and nothing else in it."""
    postgres.make_database("crm")
    with postgres.connect("crm") as connection:
        connection.execute("CREATE TABLE t (id INTEGER, v TEXT)")
    url = f"postgresql+psycopg://127.0.0.1:{postgres.port}/crm"
    return Target("tenants/default/connections/crm", 1, {"url": url}, CREDENTIALS)


@pytest.fixture
async def sql(tmp_path):
    connector = SqlConnector(tmp_path, ("postgresql+psycopg",), Servers(LOCAL))
    yield connector
    await connector.close()


@pytest.fixture
def call(sql, target):
    async def call(spec, value=None, *, effect=None, timeout_s=10.0):
        return await sql.call(target, spec, value or {}, effect=effect, timeout_s=timeout_s)

    return call


async def test_a_row_goes_in_and_comes_back(sql, target, call):
    sql.check(target.name, target.config, CREDENTIALS)
    assert await sql.test(target) == "postgresql answers"
    assert (await call(INSERT, {"id": 1.0, "v": "x'); DROP TABLE t; --"})).output == {"row_count": 1}
    assert (await call(ALL)).output == {"rows": [{"id": 1, "v": "x'); DROP TABLE t; --"}], "row_count": 1}
    typed = "SELECT 1.5::numeric AS n, DATE '2026-01-02' AS d, '\\x00ff'::bytea AS b, NULL AS z, true AS t"
    assert (await call({"statement": typed})).output["rows"] == [
        {"n": "1.5", "d": "2026-01-02", "b": "AP8=", "z": None, "t": True}
    ]


async def test_an_effect_happens_once_however_often_it_is_asked_for_at_once(call):
    """The very first effects, too, when the table that remembers them is yet to be made."""
    effect = Effect("run/step", "digest")
    answers = await asyncio.gather(*(call(INSERT, {"id": 7, "v": "a"}, effect=effect) for _ in range(12)))
    assert sum(not answer.replayed for answer in answers) == 1
    assert {str(answer.output) for answer in answers} == {"{'row_count': 1}"}
    others = await asyncio.gather(*(call(INSERT, {"id": n, "v": "b"}, effect=Effect(f"k{n}", "d")) for n in range(12)))
    assert not any(answer.replayed for answer in others)
    assert (await call(ALL)).output["row_count"] == 13


async def test_a_key_used_for_something_else_is_refused_and_a_failed_statement_keeps_none(call):
    await call(INSERT, {"id": 1, "v": "a"}, effect=Effect("k", "one"))
    with pytest.raises(EffectKeyReusedError):
        await call(INSERT, {"id": 2, "v": "a"}, effect=Effect("k", "two"))
    with pytest.raises(SystemRefusedError, match="missing"):
        await call({"statement": "INSERT INTO missing VALUES (1)"}, effect=Effect("l", "d"))
    assert not (await call(INSERT, {"id": 1, "v": "a"}, effect=Effect("l", "d"))).replayed


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM tiation_effects",
        "DELETE FROM Tiation_Effects",
        'DROP TABLE "tiation_effects"',
        "SELECT 1; SELECT 2",
    ],
)
async def test_a_statement_that_touches_what_keeps_effects_single_or_is_several_is_refused(call, statement):
    await call(INSERT, {"id": 1, "v": "a"}, effect=Effect("k", "d"))
    with pytest.raises(SystemRefusedError):
        await call({"statement": statement})
    with pytest.raises(SystemRefusedError):
        await call({"statement": statement}, {"id": 1})
    assert (await call(INSERT, {"id": 1, "v": "a"}, effect=Effect("k", "d"))).replayed


async def test_a_statement_that_takes_too_long_is_stopped_on_the_server_and_undone(call, postgres):
    began = time.monotonic()
    with pytest.raises(CallTimeoutError) as caught:
        await call({"statement": "INSERT INTO t SELECT 1, pg_sleep(30)::text"}, timeout_s=0.5)
    assert time.monotonic() - began < 5
    assert caught.value.outcome_known
    with postgres.connect("crm") as connection:
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%%INTO t SELECT 1%%'"
        assert connection.execute(sleeping + " AND pid <> pg_backend_pid()").fetchone() == (0,)
    assert (await call(ALL)).output["row_count"] == 0


async def test_a_server_that_restarts_between_two_calls_is_not_noticed(call, postgres):
    await call(INSERT, {"id": 1, "v": "a"})
    postgres.restart()
    assert (await call(ALL)).output["row_count"] == 1


async def test_a_server_that_dies_in_the_middle_is_unavailable_and_the_effect_happens_once_afterwards(call, postgres):
    effect = Effect("k", "d")
    slow = {"statement": "INSERT INTO t SELECT :id, pg_sleep(CASE WHEN (SELECT count(*) FROM t) = 0 THEN 1 ELSE 0 END)"}
    calling = asyncio.create_task(call(slow, {"id": 1}, effect=effect))
    await asyncio.sleep(0.4)
    postgres.kill()
    postgres.start()
    with pytest.raises(SystemUnavailableError) as caught:
        await calling
    assert caught.value.may_pass
    assert not caught.value.outcome_known
    assert not (await call(slow, {"id": 1}, effect=effect)).replayed
    assert (await call(slow, {"id": 1}, effect=effect)).replayed
    assert (await call(ALL)).output["row_count"] == 1


async def test_a_server_that_dies_while_rows_come_is_unavailable_and_back_afterwards(call, postgres):
    calling = asyncio.create_task(call({"statement": "SELECT pg_sleep(5)"}))
    await asyncio.sleep(0.4)
    postgres.kill()
    postgres.start()
    with pytest.raises(SystemUnavailableError):
        await calling
    assert (await call(ALL)).output["row_count"] == 0


async def test_a_server_that_is_not_there_or_does_not_let_us_in_is_said_so(sql, target):
    nowhere = Target("c", 1, {"url": f"postgresql+psycopg://127.0.0.1:{free_ports(1)[0]}/crm"}, CREDENTIALS)
    with pytest.raises(SystemUnavailableError):
        await sql.test(nowhere)
    wrong = Target("d", 1, target.config, {"username": "tiation", "password": "hunter2"})
    with pytest.raises((SystemUnavailableError, SystemRefusedError), match="password authentication failed") as caught:
        await sql.test(wrong)
    assert "hunter2" not in caught.value.message


async def test_a_kill_of_ours_between_the_effect_and_the_answer_leaves_it_done_once(call, target, postgres):
    program = (
        "import asyncio, json, sys\n"
        "from pathlib import Path\n"
        "from integration.adapters.egress import Guard\n"
        "from integration.adapters.server_place import Servers\n"
        "from integration.adapters.sql import SqlConnector\n"
        "from integration.ports import Effect, Target\n"
        "async def main():\n"
        "    servers = Servers(Guard.of([], ['127.0.0.1/32'], private=False))\n"
        "    sql = SqlConnector(Path('.'), ('postgresql+psycopg',), servers)\n"
        "    target = Target('c', 1, {'url': sys.argv[1]}, json.loads(sys.stdin.readline()))\n"
        "    for n in range(10**6):\n"
        "        spec = {'statement': 'INSERT INTO t (id, v) VALUES (:id, :v)'}\n"
        "        print(n, flush=True)\n"
        "        await sql.call(target, spec, {'id': n, 'v': ''}, effect=Effect(f'k{n}', 'd'), timeout_s=5)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", program, str(target.config["url"])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        child.stdin.write(f'{{"username": "tiation", "password": "{PASSWORD}"}}\n')
        child.stdin.flush()
        begun = 0
        for line in child.stdout:
            begun = int(line)
            if begun >= 50:
                break
        os.kill(child.pid, signal.SIGKILL)
        begun = max([begun, *(int(line) for line in child.stdout if line.endswith("\n"))])
    for number in range(begun + 1):
        await call(INSERT, {"id": number, "v": ""}, effect=Effect(f"k{number}", "d"))
    with postgres.connect("crm") as connection:
        rows = [row[0] for row in connection.execute("SELECT id FROM t ORDER BY id")]
    assert rows == list(range(begun + 1))


LARGE = "SELECT 1, repeat('x', 100000) || pg_sleep(0.002)::text FROM generate_series(1, 3000)"


@pytest.mark.parametrize("statement", [LARGE, f"/* a /* b */ */ {LARGE}", f"TABLE t UNION ALL ({LARGE})"])
async def test_rows_are_taken_as_they_come_and_no_more_of_them_than_an_answer_holds(call, statement):
    with pytest.raises(AnswerTooLargeError):
        await call({"statement": statement}, timeout_s=2.0)
    assert (await call(ALL)).output == {"rows": [], "row_count": 0}


async def test_a_statement_that_only_looks_as_if_it_returned_rows_happens_once(call):
    spec = {"statement": "INSERT INTO t VALUES (:id, 'returning 100%')"}
    assert (await call(spec, {"id": 1}, effect=Effect("k", "d"))).output == {"row_count": 1}
    assert (await call({"statement": "UPDATE t SET v = v || :v RETURNING v"}, {"v": "!"})).output["rows"] == [
        {"v": "returning 100%!"}
    ]
    assert (await call({"statement": "SELECT v FROM t WHERE v LIKE 're%'"})).output["row_count"] == 1


async def connected(tmp_path, target, guard, *addresses, url=None):
    """What a connection comes to whose host leads to some addresses."""

    async def resolver(host, port):
        return addresses

    connector = SqlConnector(tmp_path, ("postgresql+psycopg",), Servers(guard, resolver))
    place = url or str(target.config["url"]).replace("127.0.0.1", "db.example.com")
    try:
        return await connector.test(Target("c", 1, {"url": place}, CREDENTIALS))
    finally:
        await connector.close()


async def test_a_server_is_reached_at_the_address_that_was_checked_and_at_no_other(tmp_path, target):
    named = Guard.of(["db.example.com"], [], private=False)
    assert await connected(tmp_path, target, named, "127.0.0.1") == "postgresql answers"
    assert await connected(tmp_path, target, named, "127.0.0.9", "127.0.0.1") == "postgresql answers"
    closed = Guard.of([], [], private=False)
    for addresses in (["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["169.254.169.254"], ["::ffff:127.0.0.1"]):
        with pytest.raises(LocationForbiddenError, match=r"has not allowed|without TLS"):
            await connected(tmp_path, target, closed, *addresses)
    with pytest.raises(LocationForbiddenError, match="without TLS"):
        await connected(tmp_path, target, closed, "8.8.8.8")
    with pytest.raises(LocationForbiddenError, match="a loopback address"):
        await connected(tmp_path, target, closed, "127.0.0.1", url=f"{target.config['url']}?sslmode=require")


@pytest.mark.parametrize(
    "rest",
    [
        "/crm",
        "/crm?host=db",
        "%2Fvar%2Frun%2Fpostgresql/crm",
        "db,other/crm",
        "2130706433/crm",
        "db:22/crm",
        "db/host=127.0.0.1",
        *(
            f"db/crm?{setting}"
            for setting in (
                "host=127.0.0.1", "hostaddr=127.0.0.1", "port=1", "dbname=x", "service=s", "servicefile=/etc/passwd",
                "passfile=/etc/passwd", "sslkey=/etc/passwd", "sslcert=/x", "sslrootcert=/x", "options=-cx%3D1",
                "connect_timeout=0", "connect_timeout=99", "sslmode=require&sslmode=disable", "unknown=1",
            )
        ),
    ],
)  # fmt: skip
def test_a_url_says_which_server_and_nothing_of_the_machine(tmp_path, rest):
    sql = SqlConnector(tmp_path, ("postgresql+psycopg",), Servers(LOCAL))
    with pytest.raises(LocationForbiddenError):
        sql.check("c", {"url": f"postgresql+psycopg://{rest}"}, {})
    settings = "sslmode=verify-full&sslrootcert=system&connect_timeout=9&application_name=x"
    sql.check("c", {"url": f"postgresql+psycopg://db.example.com:6432/crm?{settings}"}, {})


async def test_credentials_stay_out_of_the_url(sql):
    with pytest.raises(LocationForbiddenError, match="credentials") as caught:
        sql.check("c", {"url": "postgresql+psycopg://me:hunter2@db/crm"}, {})
    assert "hunter2" not in caught.value.message
