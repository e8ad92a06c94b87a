"""A tenant's jq programs that reach out, never end or grow: one clear error each, and nobody else waits for them."""

from __future__ import annotations

import sqlite3
import statistics
import threading
import time

import pytest

from tests.fakes.installed import Installed

PROGRAMS = {
    "environment": ("env", 400),
    "environment variable": ("$ENV.PATH", 400),
    "import": ('import "a" as a; .', 400),
    "include": ('include "a"; .', 400),
    "input": ("input", 400),
    "endless loop": ("[recurse(.)] | length", 400),
    "busy loop": ("reduce range(1e12) as $i (0; . + $i)", 400),
    "deep recursion": ("def f: 1 + f; f", 400),
    "endless allocation": ("[range(1e12)]", 400),
    "growing text": ('"x" | until(false; . + .)', 400),
}


@pytest.fixture(scope="module")
def here(home_of_all: Installed) -> Installed:
    """The shared platform with a small database."""
    home_of_all.crm.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = sqlite3.connect(home_of_all.crm.with_name("hostile.db"))
    database.execute("CREATE TABLE t (id INTEGER)")
    database.close()
    return home_of_all


def connection(program: str) -> dict:
    """A connection whose one operation maps its answer with the program."""
    operation = {"operationId": "ask", "effect": "NONE", "spec": {"statement": "SELECT 1 AS one"}, "output": program}
    return {"connector": "sql", "config": {"url": "sqlite:///hostile.db"}, "operations": [operation]}


@pytest.mark.parametrize("case", PROGRAMS)
def test_a_hostile_program_gets_one_clear_error_and_slows_nobody(here: Installed, case: str):
    program, expected = PROGRAMS[case]
    name = f"hostile-{case.replace(' ', '-')}"
    with here.rest() as client:
        made = client.post("/v1/tenants/default/connections", params={"connection_id": name}, json=connection(program))
        if made.status_code != 200:
            assert made.status_code == expected, made.text
            assert "jq" in made.json()["message"] or "available" in made.json()["message"]
            return
        quiet = latencies(client, 20)
        stop, meanwhile = threading.Event(), []

        def measure() -> None:
            with here.rest() as other:
                while not stop.is_set():
                    meanwhile.extend(latencies(other, 5))

        measuring = threading.Thread(target=measure)
        measuring.start()
        began = time.monotonic()
        answer = client.post(f"/v1/tenants/default/connections/{name}:invoke", json={"operationId": "ask"})
        took = time.monotonic() - began
        stop.set()
        measuring.join()
        assert answer.status_code == expected, answer.text
        body = answer.json()
        assert body["message"]
        assert sum(detail["@type"].endswith("ErrorInfo") for detail in body["details"]) == 1
        assert took < 6.0
        assert statistics.median(meanwhile) < max(3 * statistics.median(quiet), 0.03)
        assert client.delete(f"/v1/tenants/default/connections/{name}").status_code == 200


def latencies(client, count: int) -> list[float]:
    """How long a call of the same service takes, seconds."""
    found = []
    for _ in range(count):
        began = time.monotonic()
        assert client.get("/v1/tenants/default/connections").status_code == 200
        found.append(time.monotonic() - began)
    return found
