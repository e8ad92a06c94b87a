"""The policy with 10,000 principals and 50,000 bindings beside one with ten: deciding, starting, hearing of a change.

A change is heard of when a service behind the gateway refuses what a binding allowed until then; the clock runs from
the answer of the call that deleted the binding.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "gen" / "python")]

from bench.measure import quantile, write_results
from mesh.db import open_database
from mesh.entries import Entry
from mesh.entry_store import EntryStore
from mesh.policy import Policy
from mesh.policy_messages import read_snapshot, snapshot_message
from mesh.snapshot import Account, Binding, Condition, Group, Limits, Role, Snapshot
from mesh.stages.limits import LimitStage
from security import entries
from security.changes import Change
from security.store import PolicyStore
from tests.fakes.installed import Installed, installed

HOME = "tenants/default"
ROLES = ("viewer", "operator", "developer")
LOOK = ("*.*.get", "*.*.list")
AGENTS = 2000


def bindings_of(principals: int, each: int) -> list[entries.Binding]:
    """Five bindings a principal: on agents, one through a group, one a denial, one with an end."""
    found, rng = [], random.Random(7)  # noqa: S311 -- the same world each time
    for number in range(principals):
        who = f"{HOME}/principals/p{number}"
        for nth in range(each):
            found.append(
                entries.Binding(
                    who if nth else "",
                    f"tenants/system/roles/{ROLES[nth % 3]}",
                    f"{HOME}/agents/a{rng.randrange(AGENTS)}",
                    "" if nth else f"{HOME}/groups/g{number % 200}",
                    2 if nth == 3 and number % 10 == 0 else 1,
                    expire_time=datetime(2100, 1, 1, tzinfo=UTC) if nth == 2 else None,
                )
            )
    return found


def compiled(principals: int, each: int) -> tuple[Snapshot, float, float, int]:
    """The same as a snapshot: with the seconds to compile it, those to go over the wire, and its bytes there."""
    rules = tuple(
        Binding(
            f"{HOME}/bindings/b{number}", "", rule.role, rule.resource, rule.who, rule.effect == 2, 0.0,
            rule.expire_time.timestamp() if rule.expire_time else 0.0,
            Condition(resource_prefix=f"{HOME}/agents/a") if number % 50 == 0 else None,
        )
        for number, rule in enumerate(bindings_of(principals, each))
    )  # fmt: skip
    names = tuple(f"{HOME}/principals/p{number}" for number in range(principals))
    groups = tuple(Group(f"{HOME}/groups/g{number}", names[number::200]) for number in range(200))
    snapshot = Snapshot(
        1, "{}", (HOME,), tuple(Role(f"tenants/system/roles/{role}", LOOK) for role in ROLES), rules, names, groups,
        tuple(Account(name, f"uid-{name}") for name in names),
    )  # fmt: skip
    began = time.perf_counter()
    Policy(snapshot)
    middle = time.perf_counter()
    raw = snapshot_message(snapshot).SerializeToString()
    from tiation.security.v1 import policy_pb2

    read_snapshot(policy_pb2.PolicySnapshot.FromString(raw))
    return snapshot, middle - began, time.perf_counter() - middle, len(raw)


def decisions(policy: Policy, principals: int) -> tuple[list[float], float]:
    """Microseconds of single decisions that were not made before, and of one that was."""
    rng, took = random.Random(11), []  # noqa: S311 -- the same questions each time
    for number in range(20_000):
        who = f"{HOME}/principals/p{rng.randrange(principals)}"
        place = f"{HOME}/agents/a{rng.randrange(AGENTS)}/runs/r{number}"
        began = time.perf_counter_ns()
        policy.decide(who, "", "orchestrator.runs.get", place, "default")
        took.append((time.perf_counter_ns() - began) / 1000)
    asked = (f"{HOME}/principals/p1", "", "orchestrator.runs.get", f"{HOME}/agents/a1/runs/r", "default")
    policy.decide(*asked)
    began = time.perf_counter_ns()
    for _ in range(100_000):
        policy.decide(*asked)
    return took, (time.perf_counter_ns() - began) / 1e8


def counting() -> tuple[float, float]:
    """Microseconds to count a call in and out: where principal and tenant are limited, and where nobody is."""
    from tests.unit.mesh.test_limits import NONE, Of, call

    found, limits = [], Limits(1_000_000, 1_000_000, 100)
    for policy in (Of(limits, limits), Of()):
        stage, made = LimitStage(lambda policy=policy: policy, NONE, NONE), call()
        began = time.perf_counter_ns()
        for _ in range(50_000):
            stage.enter(made)
            stage.leave(made)
        found.append((time.perf_counter_ns() - began) / 50_000 / 1000)
    return found[0], found[1]


def fill(home: Path, principals: int, each: int) -> None:
    """Lay principals, groups and bindings into security's database, while nothing runs."""
    import asyncio

    database, rows, policy = (
        open_database(f"sqlite:///{home / 'security' / 'security.db'}"),
        EntryStore(),
        PolicyStore(),
    )
    now = datetime.now(UTC)

    def work(transaction) -> None:
        for number in range(principals):
            name = f"{HOME}/principals/p{number}"
            rows.add(transaction, Entry(name, f"uid-{name}", 1, now, now, entries.Principal()))
        for number in range(200):
            members = tuple(sorted(f"{HOME}/principals/p{n}" for n in range(number, principals, 200)))
            name = f"{HOME}/groups/g{number}"
            rows.add(transaction, Entry(name, f"uid-{name}", 1, now, now, entries.Group("", members)))
        for number, body in enumerate(bindings_of(principals, each)):
            name = f"{HOME}/bindings/b{number}"
            rows.add(transaction, Entry(name, f"uid-{name}", 1, now, now, body))
        policy.new_policy_revision(transaction, Change("Tenant", HOME))

    async def run() -> None:
        await database.write(work)
        await database.close()

    asyncio.run(run())


def heard(here: Installed, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds that deleting a binding takes, and those from its answer until every service refuses."""
    deleting, hearing = [], []
    kinds = ("agents", "models", "connections")
    with here.rest(here.token()) as operator:
        operator.post(f"/v1/{HOME}/principals", params={"principal_id": "bench"}, json={})
        who = {"principal": f"{HOME}/principals/bench"}
        key = operator.post(f"/v1/{HOME}/apiKeys", params={"api_key_id": "bench"}, json=who).json()["keyString"]
        token = operator.post(f"/v1/{HOME}/tokens:exchange", json={"apiKey": key}).json()["token"]
        with here.rest(token) as client:
            for number in range(rounds):
                body = who | {"role": "tenants/system/roles/viewer"}
                name = f"bench{number}"
                operator.post(f"/v1/{HOME}/bindings", params={"binding_id": name}, json=body).raise_for_status()
                wait(lambda code: code == 200, client, kinds)
                began = time.perf_counter()
                operator.delete(f"/v1/{HOME}/bindings/{name}").raise_for_status()
                deleted = time.perf_counter()
                wait(lambda code: code == 403, client, kinds)
                deleting.append((deleted - began) * 1000)
                hearing.append((time.perf_counter() - deleted) * 1000)
    return deleting, hearing


def wait(wanted: Callable[[int], bool], client: httpx.Client, kinds: tuple[str, ...]) -> None:
    """Ask every service until each answers so."""
    waiting, deadline = list(kinds), time.monotonic() + 30
    while waiting:
        assert time.monotonic() < deadline, waiting
        waiting = [kind for kind in waiting if not wanted(client.get(f"/v1/{HOME}/{kind}").status_code)]


def main() -> None:
    """Measure both sizes and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    hearings = {}
    for label, principals, each in (("small", 10, 5), ("large", 10_000, 5)):
        snapshot, compile_s, wire_s, size = compiled(principals, each)
        took, cached_us = decisions(Policy(snapshot), principals)
        with tempfile.TemporaryDirectory() as scratch:
            home = Path(scratch) / "home"
            with installed(home):
                pass
            fill(home, principals, each)
            with installed(home) as here:
                deleting, hearing = heard(here, options.rounds)
                ready_s = here.ready_s
        hearings[label] = statistics.median(hearing)
        rows.append(
            {
                "row": label, "principals": principals, "bindings": principals * each,
                "decide_p50_us": quantile(took, 0.5), "decide_p99_us": quantile(took, 0.99),
                "decide_again_us": cached_us, "compile_ms": compile_s * 1000, "wire_ms": wire_s * 1000,
                "wire_mb": size / 1e6, "ready_s": ready_s, "delete_p50_ms": quantile(deleting, 0.5),
                "heard_p50_ms": quantile(hearing, 0.5), "heard_max_ms": max(hearing),
            }
        )  # fmt: skip
    limited, free = counting()
    rows.append({"row": "limits", "limited_us": limited, "unlimited_us": free})
    write_results("policy", rows, {"heard, large / small": hearings["large"] / hearings["small"]})


if __name__ == "__main__":
    main()
