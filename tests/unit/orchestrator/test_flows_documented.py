"""docs/flows.md says what is true: each example is checked, and run with its input to its output."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mesh.errors import Code, TiationError
from orchestrator.flow.check import FlowChecker
from orchestrator.flow.steps import Approve, Call, walk
from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import Memory, a_run, carry_out

TEXT = (Path(__file__).parents[3] / "docs" / "flows.md").read_text()
EXAMPLES = re.findall(
    r"^## (.*?)$|^<!-- input: (.*?) output: (.*?) -->\n```yaml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE
)


class DownError(TiationError):
    """A server that cannot be reached."""

    code = Code.UNAVAILABLE
    reason = "SYSTEM_UNAVAILABLE"


def http(given):
    if "down" in given["endpoint"]:
        raise DownError("down")
    assert given["endpoint"].endswith("/pets/12")
    return {"request": {}, "statusCode": 200, "headers": {}, "content": {"name": "Rex"}}


ANSWERS = {
    "infer": lambda given: {"label": ["hello"]},
    "decide": lambda given: {"score": 5},
    "connect": lambda given: {"stored": given["input"]["id"]},
    "http": http,
    "grpc": lambda given: {"message": f"Hello {given['arguments']['name']}"},
}


def examples():
    """Each example with the section that it stands in."""
    section = ""
    for heading, given, output, text in EXAMPLES:
        if heading:
            section = heading
        else:
            yield pytest.param(text, json.loads(given), json.loads(output), id=f"{section}-{text.count(chr(10))}")


def whole(text):
    """An example as a document."""
    return text if text.startswith("document:") else "document: {dsl: 1.0.0, name: a}\n" + text


def carried_out(stage, text, given):
    name = re.search(r"name: ([a-z]+)", whole(text))[1]
    flow = stage.run(FlowChecker(stage.sandbox).check(whole(text), agent_id=name, tenant="default"))
    memory = Memory()
    for _ in range(20):
        stage.run(carry_out(flow, a_run(given), memory, FakeCalls(ANSWERS), stage.sandbox))
        if memory.ended is not None:
            return flow, memory
        if memory.pending():
            memory.answer(memory.pending()[0], "approve")
        else:
            memory.pass_time()
    raise AssertionError("it never ends")


@pytest.mark.parametrize(("text", "given", "output"), list(examples()))
def test_an_example_runs_to_the_output_that_the_page_gives(stage, text, given, output):
    _, memory = carried_out(stage, text, given)
    assert memory.ended == ("SUCCEEDED", output, None)


def test_every_kind_of_step_and_call_has_an_example(stage):
    kinds, calls = set(), set()
    for each in examples():
        flow, _ = carried_out(stage, *each.values[:2])
        for step in walk(flow.steps):
            kinds.add(type(step).__name__.lower())
            if isinstance(step, Call):
                calls.add(step.kind)
    assert kinds == {"set", "switch", "do", "for", "fork", "raise", "try", "wait", "call", "approve"}
    assert calls == {"infer", "decide", "connect", "http", "grpc"}
    assert Approve.__name__.lower() in kinds
