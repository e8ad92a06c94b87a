"""The sql connector: one database file and nothing else, every effect once, every failure clear."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
import tracemalloc

import pytest

from integration.adapters.server_place import Servers
from integration.adapters.sql import SqlConnector
from integration.errors import (
    AnswerTooLargeError,
    CallTimeoutError,
    EffectKeyReusedError,
    LocationForbiddenError,
    OperationInvalidError,
    SystemRefusedError,
    SystemUnavailableError,
)
from integration.ports import Effect, Target
from tests.unit.integration.conftest import LOCAL

INSERT = {"statement": "INSERT INTO t (id, v) VALUES (:id, :v)"}
ALL = {"statement": "SELECT id, v FROM t ORDER BY rowid"}


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "data"
    made.mkdir()
    database = sqlite3.connect(made / "crm.db")
    database.execute("CREATE TABLE t (id INTEGER, v TEXT)")
    database.commit()
    database.close()
    return made


@pytest.fixture
async def sql(folder):
    connector = SqlConnector(folder, ("sqlite",), Servers(LOCAL))
    yield connector
    await connector.close()


def target(url="sqlite:///crm.db", uid=""):
    return Target("tenants/default/connections/crm", 1, {"url": url}, {}, uid)


async def call(sql, spec, value=None, *, effect=None, timeout_s=5.0):
    return await sql.call(target(), spec, value or {}, effect=effect, timeout_s=timeout_s)


async def test_a_row_goes_in_and_comes_back(sql):
    assert (await call(sql, INSERT, {"id": 1, "v": "x'); DROP TABLE t; --"})).output == {"row_count": 1}
    assert (await call(sql, ALL)).output == {"rows": [{"id": 1, "v": "x'); DROP TABLE t; --"}], "row_count": 1}


async def test_an_effect_happens_once_however_often_it_is_asked_for(sql):
    effect = Effect("run/step", "digest")
    answers = await asyncio.gather(*(call(sql, INSERT, {"id": 7, "v": "a"}, effect=effect) for _ in range(12)))
    assert sum(not answer.replayed for answer in answers) == 1
    assert {str(answer.output) for answer in answers} == {"{'row_count': 1}"}
    assert (await call(sql, ALL)).output["row_count"] == 1


async def test_a_database_that_another_program_holds_is_waited_for(sql, folder):
    other = sqlite3.connect(folder / "crm.db", isolation_level=None)  # which keeps no write-ahead log yet
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO t VALUES (1, 'theirs')")
    asked = asyncio.create_task(call(sql, INSERT, {"id": 2, "v": "ours"}))
    await asyncio.sleep(0.2)
    assert not asked.done()
    other.execute("COMMIT")
    other.close()
    assert (await asked).output == {"row_count": 1}
    assert (await call(sql, ALL)).output["row_count"] == 2


async def test_a_key_used_for_something_else_is_refused(sql):
    await call(sql, INSERT, {"id": 1, "v": "a"}, effect=Effect("k", "one"))
    with pytest.raises(EffectKeyReusedError):
        await call(sql, INSERT, {"id": 2, "v": "a"}, effect=Effect("k", "two"))


async def test_a_failed_statement_keeps_no_key(sql):
    effect = Effect("k", "d")
    with pytest.raises(SystemRefusedError):
        await call(sql, {"statement": "INSERT INTO missing VALUES (1)"}, effect=effect)
    assert not (await call(sql, INSERT, {"id": 1, "v": "a"}, effect=effect)).replayed


async def test_a_kill_between_the_effect_and_the_answer_leaves_it_done_once(sql, folder):
    program = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from integration.adapters.sql import SqlConnector\n"
        "from integration.ports import Effect, Target\n"
        "async def main():\n"
        "    sql = SqlConnector(Path(sys.argv[1]), ('sqlite',), None)\n"
        "    target = Target('tenants/default/connections/crm', 1, {'url': 'sqlite:///crm.db'}, {})\n"
        "    for n in range(10**6):\n"
        "        spec = {'statement': 'INSERT INTO t (id, v) VALUES (:id, :v)'}\n"
        "        print(n, flush=True)\n"
        "        await sql.call(target, spec, {'id': n, 'v': ''}, effect=Effect(f'k{n}', 'd'), timeout_s=5)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True) as child:
        begun = 0
        for line in child.stdout:
            begun = int(line)
            if begun >= 50:
                break
        os.kill(child.pid, signal.SIGKILL)
        begun = max([begun, *(int(line) for line in child.stdout if line.endswith("\n"))])
    for number in range(begun + 1):
        await call(sql, INSERT, {"id": number, "v": ""}, effect=Effect(f"k{number}", "d"))
    database = sqlite3.connect(folder / "crm.db")
    rows = [row[0] for row in database.execute("SELECT id FROM t ORDER BY id")]
    database.close()
    assert rows == list(range(begun + 1))


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///../integration.db",
        "sqlite:////etc/passwd",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:crm.db",
        "sqlite:///crm.db?mode=rw",
        "sqlite:///link.db",
        "sqlite:///hard.db",
        "sqlite:///.",
        "sqlite:///.tenants/other/crm.db",
        "sqlite:///there",
        "postgresql://host/db",
        "nonsense",
    ],
)
async def test_a_place_that_is_not_allowed_is_refused(sql, folder, url):
    own = folder.parent / "integration.db"
    own.write_bytes(b"")
    (folder / "link.db").symlink_to(own)
    os.link(own, folder / "hard.db")
    theirs = folder / ".tenants" / "other"
    theirs.mkdir(parents=True)
    (theirs / "crm.db").write_bytes(b"")
    (folder / "there").symlink_to(theirs / "crm.db")
    with pytest.raises(LocationForbiddenError):
        sql.check(target().name, {"url": url}, {})


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH DATABASE '{own}' AS other",
        "VACUUM INTO '{own}.copy'",
        "PRAGMA writable_schema = 1",
        "SELECT load_extension('x')",
        "SELECT * FROM tiation_effects",
        "DELETE FROM tiation_effects",
        "SELECT 1; SELECT 2",
    ],
)
async def test_a_statement_that_would_leave_its_database_is_refused(sql, folder, statement):
    own = folder.parent / "integration.db"
    await call(sql, INSERT, {"id": 1, "v": "a"}, effect=Effect("k", "d"))
    with pytest.raises(SystemRefusedError):
        await call(sql, {"statement": statement.format(own=own)})
    assert not own.with_name("integration.db.copy").exists()


async def test_a_statement_that_takes_too_long_is_stopped_and_undone(sql):
    endless = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, '' FROM n"
    began = time.monotonic()
    with pytest.raises(CallTimeoutError):
        await call(sql, {"statement": endless}, timeout_s=0.3)
    assert time.monotonic() - began < 3
    assert (await call(sql, ALL)).output["row_count"] == 0


async def test_what_waits_for_a_lock_or_for_its_turn_too_long_does_not_happen_later(folder):
    sql = SqlConnector(folder, ("sqlite",), Servers(LOCAL), threads=1)
    await call(sql, ALL)
    other = sqlite3.connect(folder / "crm.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    calls = (call(sql, INSERT, {"id": n, "v": ""}, effect=Effect(f"k{n}", "d"), timeout_s=0.3) for n in range(3))
    for error in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(error, CallTimeoutError)
        assert error.outcome_known
    other.execute("ROLLBACK")
    other.close()
    assert (await call(sql, ALL)).output["rows"] == []
    assert not (await call(sql, INSERT, {"id": 0, "v": ""}, effect=Effect("k0", "d"))).replayed
    await sql.close()


async def test_answers_have_a_bound(sql):
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i FROM n"
    with pytest.raises(AnswerTooLargeError):
        await call(sql, {"statement": many})


@pytest.mark.parametrize("answer", ["zeroblob(60000000)", "zeroblob(3000000)"])
async def test_a_value_that_is_too_large_never_fills_the_memory(sql, answer):
    tracemalloc.start()
    try:
        with pytest.raises(AnswerTooLargeError):
            await call(sql, {"statement": f"SELECT {answer}"})
        assert tracemalloc.get_traced_memory()[1] < 6_000_000
    finally:
        tracemalloc.stop()


async def test_missing_and_nested_parameters_are_named(sql):
    for value in ({"id": 1}, {"id": 1, "v": {"a": 1}}, [1]):
        with pytest.raises(SystemRefusedError, match=r"`(v|id)`"):
            await call(sql, INSERT, value)


async def test_a_database_that_is_not_there_is_not_made(sql, folder):
    with pytest.raises(SystemUnavailableError):
        await sql.call(target("sqlite:///new.db"), ALL, {}, effect=None, timeout_s=5.0)
    assert not (folder / "new.db").exists()


async def test_a_connection_that_was_made_anew_under_its_old_name_reaches_its_new_database(sql, folder):
    database = sqlite3.connect(folder / "new.db")
    database.execute("CREATE TABLE t (id INTEGER, v TEXT)")
    database.close()
    await sql.call(target(uid="first"), INSERT, {"id": 1, "v": "old"}, effect=None, timeout_s=5.0)
    answer = await sql.call(target("sqlite:///new.db", "second"), ALL, {}, effect=None, timeout_s=5.0)
    assert answer.output["rows"] == []


async def test_a_tenant_reaches_no_database_of_another_one(sql, folder):
    await call(sql, INSERT, {"id": 1, "v": "of default"})
    name = "tenants/other/connections/crm"
    theirs = Target(name, 1, {"url": "sqlite:///crm.db"}, {}, "theirs")
    with pytest.raises(SystemUnavailableError, match="there is no database"):
        await sql.call(theirs, ALL, {}, effect=None, timeout_s=5.0)
    own = folder / ".tenants" / "other"
    own.mkdir(parents=True)
    database = sqlite3.connect(own / "crm.db")
    database.execute("CREATE TABLE t (id INTEGER, v TEXT)")
    database.close()
    sql.check(name, theirs.config, {})
    assert (await sql.call(theirs, ALL, {}, effect=None, timeout_s=5.0)).output["rows"] == []
    for url in (f"sqlite:///{folder}/crm.db", "sqlite:///../../crm.db", "sqlite:///../third/crm.db"):
        with pytest.raises(LocationForbiddenError):
            sql.check(name, {"url": url}, {})


@pytest.mark.parametrize("spec", [{}, {"statement": ""}, {"statement": 7}, {"statement": "SELECT 1", "x": 1}])
def test_an_operation_is_one_statement_and_nothing_else(spec, tmp_path):
    with pytest.raises(OperationInvalidError):
        SqlConnector(tmp_path, ("sqlite",), Servers(LOCAL)).check_operation(spec, "f")
