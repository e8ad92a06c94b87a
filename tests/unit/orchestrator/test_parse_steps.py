"""Mistakes in the further kinds of steps are said with their place: line, column and JSON pointer."""

from __future__ import annotations

import pytest

from orchestrator.errors import FlowInvalidError
from orchestrator.flow import parse_flow


def step(*lines: str) -> str:
    """A flow of one step `a`, whose body begins in line 4, column 7."""
    return "document: {dsl: 1.0.0, name: a}\ndo:\n  - a:\n" + "".join(f"      {line}\n" for line in lines)


WRONG = {
    # what: text, line, column, pointer below the step, words
    "a loop without its list": (
        step("for: {each: x}", "do:", "  - b: {set: {x: 1}}"),
        4, 12, "/for", "`in` is missing",
    ),
    "a loop without steps": (
        step("for: {in: .x}"),
        4, 7, "", "`for` needs `do`",
    ),
    "a loop with a bad variable": (
        step("for: {in: .x, each: input}", "do:", "  - b: {set: {x: 1}}"),
        4, 27, "/for/each", "cannot be a variable",
    ),
    "a loop with one name for two things": (
        step("for: {in: .x, each: i, at: i}", "do:", "  - b: {set: {x: 1}}"),
        4, 34, "/for", "names item and index both",
    ),
    "while without a loop": (
        step("set: {x: 1}", "while: .x"),
        5, 7, "", "unknown key `while`",
    ),
    "a fork without branches": (
        step("fork: {compete: true}"),
        4, 13, "/fork", "`branches` is missing",
    ),
    "a fork with no branch": (
        step("fork: {branches: []}"),
        4, 24, "/fork/branches", "must be a list of steps",
    ),
    "a fork that competes oddly": (
        step("fork:", "  compete: often", "  branches:", "    - b: {set: {x: 1}}"),
        5, 18, "/fork/compete", "true or false",
    ),
    "a branch that leads to another": (
        step("fork:", "  branches:", "    - b: {set: {x: 1}, then: c}", "    - c: {set: {x: 1}}"),
        6, 36, "/fork/branches/0/b/then", "leads nowhere",
    ),
    "an error without a type": (
        step("raise: {error: {status: 400}}"),
        4, 22, "/raise/error", "`type` is missing",
    ),
    "an error of no status": (
        step("raise: {error: {type: x, status: 99}}"),
        4, 40, "/raise/error/status", "100 to 599",
    ),
    "an error that nobody defined": (
        step("raise: {error: lost}"),
        4, 22, "/raise/error", "no error `lost`",
    ),
    "a wait of no duration": (
        step("wait: 5 minutes"),
        4, 13, "/wait", "is no duration",
    ),
    "a wait of an unknown unit": (
        step("wait: {weeks: 2}"),
        4, 13, "/wait", "unknown key `weeks`",
    ),
    "a wait beyond measure": (
        step("wait: P4000D"),
        4, 13, "/wait", "0 to 3650 days",
    ),
    "a retry that nobody defined": (
        step("try:", "  - b: {set: {x: 1}}", "catch: {retry: often}"),
        6, 22, "/catch/retry", "no retry policy `often`",
    ),
    "a retry with an unknown key": (
        step("try:", "  - b: {set: {x: 1}}", "catch: {retry: {times: 3}}"),
        6, 23, "/catch/retry", "unknown key `times`",
    ),
    "a retry with an unknown backoff": (
        step("try:", "  - b: {set: {x: 1}}", "catch: {retry: {backoff: {random: {}}}}"),
        6, 32, "/catch/retry/backoff", "constant, linear, exponential",
    ),
    "a retry with a count of text": (
        step("try:", "  - b: {set: {x: 1}}", "catch: {retry: {limit: {attempt: {count: many}}}}"),
        6, 48, "/catch/retry/limit/attempt/count", "whole number",
    ),
    "a retry with a limit of each attempt": (
        step("try:", "  - b: {set: {x: 1}}", "catch: {retry: {limit: {attempt: {duration: PT1S}}}}"),
        6, 41, "/catch/retry/limit/attempt", "unknown key `duration`",
    ),
    "a fetch with credentials": (
        step("call: http", "with: {method: get, endpoint: {uri: x, authentication: y}}"),
        5, 46, "/with/endpoint", "unknown key `authentication`",
    ),
    "a fetch with an unknown output": (
        step("call: http", "with: {method: get, endpoint: x, output: xml}"),
        5, 48, "/with/output", "content, response, raw",
    ),
    "a grpc call with a proto": (
        step("call: grpc", "with: {proto: x, service: {name: a, host: b}, method: M}"),
        5, 14, "/with", "unknown key `proto`",
    ),
    "a timeout where there is none": (
        step("call: infer", "with: {model: m, inputs: {}}", "timeout: {after: PT1S}"),
        6, 16, "/timeout", "calls of http, grpc only",
    ),
    "a question without a title": (
        step("call: approve", "with: {description: x}"),
        5, 13, "/with", "`title` is missing",
    ),
    "a question with a timeout of nothing": (
        step("call: approve", "with: {title: x, timeout: soon}"),
        5, 33, "/with/timeout", "is no duration",
    ),
    "a question to one text": (
        step("call: approve", "with: {title: x, approvers: boss}"),
        5, 35, "/with/approvers", "a list of texts",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_said_with_its_place(case):
    text, line, column, pointer, words = case
    with pytest.raises(FlowInvalidError) as caught:
        parse_flow(text)
    error = caught.value
    assert words in error.message
    assert (error.metadata["line"], error.metadata["column"]) == (str(line), str(column)), error.message
    assert error.metadata["pointer"] == f"/do/0/a{pointer}"
