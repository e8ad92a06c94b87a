"""The sandbox: what a program may, what it may not, and that nobody else pays for one that misbehaves."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mesh.sandbox import (
    DecisionForbiddenNodeError,
    DecisionInvalidError,
    JqForbiddenError,
    JqOutputsError,
    JqRuntimeError,
    JqSyntaxError,
    SandboxCrashedError,
    SandboxDeadlineError,
    SandboxError,
    SandboxMemoryError,
    SandboxOutputTooLargeError,
    SandboxPool,
)

GRAPH = (Path(__file__).parents[3] / "examples" / "support-triage" / "support-routing.json").read_bytes()


@pytest.fixture
async def pool():
    made = SandboxPool()
    yield made
    await made.close()


async def test_programs_compute_with_their_input_and_variables(pool):
    assert await pool.jq(".a + $b", {"a": 1}, {"b": 2}) == 3
    assert await pool.jq("$workflow.input.id", None, {"workflow": {"input": {"id": "x"}}}) == "x"
    assert await pool.jq("empty", 1) is None
    with pytest.raises(JqOutputsError):
        await pool.jq("1, 2", None)
    with pytest.raises(JqRuntimeError):
        await pool.jq(".a.b", {"a": 1})


@pytest.mark.parametrize(
    "program",
    [
        "env",
        "$ENV",
        "env.PATH",
        "input",
        "inputs",
        "debug",
        "halt",
        "halt_error",
        'import "a" as a; .',
        'include "a"; .',
        "input_filename",
        "get_search_list",
    ],
)
async def test_programs_cannot_reach_out(pool, program):
    with pytest.raises((JqForbiddenError, JqSyntaxError, JqRuntimeError)):
        await pool.jq(program, None)


async def test_a_syntax_error_says_where(pool):
    with pytest.raises(JqSyntaxError) as caught:
        await pool.compile_jq(".a\n| | .b")
    assert (caught.value.line, caught.value.column) == (2, 3)


@pytest.mark.parametrize(
    ("program", "errors"),
    [
        ("reduce range(1e12) as $i (0; . + $i)", SandboxDeadlineError),
        ("[recurse(.)]", (SandboxDeadlineError, SandboxMemoryError)),
        ("[range(1e12)]", (SandboxMemoryError, SandboxDeadlineError)),
        ('"x" | until(false; . + .)', (SandboxMemoryError, SandboxDeadlineError, SandboxCrashedError, JqRuntimeError)),
        ("def f: 1 + f; f", (SandboxMemoryError, SandboxDeadlineError, SandboxCrashedError)),
        ("[range(500000)]", SandboxOutputTooLargeError),
        ("reduce range(10000) as $i (0; [.])", (SandboxOutputTooLargeError, JqRuntimeError)),
    ],
)
async def test_a_program_that_breaks_its_limits_gets_one_error_in_time(pool, program, errors):
    began = time.monotonic()
    with pytest.raises(errors):
        await pool.jq(program, None)
    assert time.monotonic() - began < 4.0
    assert await pool.jq(".a", {"a": 1}) == 1


async def test_other_owners_calls_stay_fast_beside_one_that_never_ends(pool):
    await pool.jq(".", 1, owner="good")
    hostile = [asyncio.create_task(pool.jq("last(range(1e12))", None, owner="bad")) for _ in range(4)]
    await asyncio.sleep(0.05)
    took = []
    for _ in range(100):
        began = time.perf_counter()
        await pool.jq(".a", {"a": 1}, owner="good")
        took.append(time.perf_counter() - began)
    results = await asyncio.gather(*hostile, return_exceptions=True)
    assert all(isinstance(result, SandboxError) for result in results)
    assert statistics.median(took) < 0.02


async def test_a_killed_worker_is_replaced_and_its_call_made_again(pool):
    await pool.jq(".", 1)
    for pid in pool.pids():
        os.kill(pid, signal.SIGKILL)
    assert await pool.jq(".a", {"a": 1}) == 1


async def test_decisions_decide_and_graphs_with_code_are_refused(pool):
    facts = {"intent": "billing", "score": 0.9, "tier": "free"}
    answers = await asyncio.gather(*(pool.decide(GRAPH, facts) for _ in range(8)))
    assert {answer.result["queue"] for answer in answers} == {"billing"}
    code = {"nodes": [{"id": "f", "type": "functionNode", "content": {"source": "x"}}], "edges": []}
    with pytest.raises(DecisionForbiddenNodeError):
        await pool.validate_decision(json.dumps(code).encode())
    for graph in (b"", b"[]", b'{"nodes": 1, "edges": []}', GRAPH.replace(b"< 0.5", b"< < 5")):
        with pytest.raises(DecisionInvalidError):
            await pool.validate_decision(graph)


async def test_workers_have_no_environment_and_die_with_their_service():
    program = (
        "import asyncio, os, time\n"
        "from mesh.sandbox import SandboxPool\n"
        "async def main():\n"
        "    pool = SandboxPool()\n"
        "    await pool.jq('.', 1)\n"
        "    print(*pool.pids(), flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "SECRET": "x"}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment) as child:
        pids = [int(pid) for pid in child.stdout.readline().split()]
        assert pids
        for pid in pids:
            assert b"SECRET" not in Path(f"/proc/{pid}/environ").read_bytes()
        child.kill()
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
