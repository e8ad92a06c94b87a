"""Flows: what is read, and where each mistake is said to be."""

from __future__ import annotations

import json

import pytest
import yaml

from orchestrator.errors import FlowInvalidError
from orchestrator.flow import parse_flow
from orchestrator.flow.check import FlowChecker
from orchestrator.flow.steps import Call, Set, Switch, Try
from tests.fakes.installed import EXAMPLE

HEAD = "document:\n  dsl: 1.0.0\n  name: a\n"  # three lines, so the next is line 4


def flow(body: str) -> str:
    return f"{HEAD}{body}"


WRONG = {
    # what: text, line, column, pointer, words
    "nothing at all": ("", 1, 1, "", "there is nothing"),
    "a list": ("- 1\n", 1, 1, "", "must be an object"),
    "no document": ("do: []\n", 1, 1, "", "`document` is missing"),
    "an unknown key": (flow("do: []\nwhen: now\n"), 5, 1, "", "unknown key `when`"),
    "an unknown dsl": ("document: {dsl: 2.0.0, name: a}\ndo: []\n", 1, 17, "/document/dsl", "version 2.0.0"),
    "no steps": (flow("do: []\n"), 4, 5, "/do", "must be a list of steps"),
    "two steps in one": (flow("do:\n  - a: {set: {x: 1}}\n    b: {set: {x: 1}}\n"), 5, 5, "/do/0", "one step"),
    "an unknown step": (flow("do:\n  - a:\n      dance: {}\n"), 6, 7, "/do/0/a", "unknown step `dance`"),
    "a step of later": (flow("do:\n  - a:\n      listen: {}\n"), 6, 7, "/do/0/a", "unknown step `listen`"),
    "two things at once": (flow("do:\n  - a:\n      set: {x: 1}\n      call: infer\n"), 6, 7, "/do/0/a", "exactly one"),
    "an unknown key in a step": (
        flow("do:\n  - a:\n      set: {x: 1}\n      retry: 3\n"), 7, 7, "/do/0/a", "unknown key `retry`",
    ),
    "a step named twice": (
        flow("do:\n  - a: {set: {x: 1}}\n  - a: {set: {x: 1}}\n"), 6, 5, "/do/1", "step `a` in this list already",
    ),
    "a step named end": (flow("do:\n  - end: {set: {x: 1}}\n"), 5, 5, "/do/0", "another name"),
    "a key twice": (flow("do:\n  - a: {set: {x: 1, x: 2}}\n"), 5, 21, "", "`x` is there twice"),
    "an anchor": (flow("do:\n  - a: {set: {x: &n 1}}\n"), 5, 18, "", "anchors"),
    "an alias": (flow("do:\n  - a: {set: {x: *n}}\n"), 5, 18, "", "aliases"),
    "a tag": (flow("do:\n  - a: {set: {x: !!python/name:os.system y}}\n"), 5, 18, "/do/0/a/set/x", "tag"),
    "a tag that does not fit": (flow("do:\n  - a: {set: {x: !!int y}}\n"), 5, 18, "/do/0/a/set/x", "no value"),
    "a number JSON does not know": (flow("do:\n  - a: {set: {x: .nan}}\n"), 5, 18, "/do/0/a/set/x", "no value"),
    "an endless number": (flow(f"do:\n  - a: {{set: {{x: {'9' * 5000}}}}}\n"), 5, 18, "/do/0/a/set/x", "no value"),
    "a control character": (flow("do:\n  - a: {set: {x: '\x00'}}\n"), 5, 19, "", "U+0000"),
    "half a character": (
        '{"document": {"dsl": "1.0.0", "name": "a"},\n "do": [{"a": {"set": {"x": "\\ud83d"}}}]}', 2, 29,
        "/do/0/a/set/x", "surrogate",
    ),
    "too deep": (flow("do:\n  - a: {set: {x: " + "[" * 40 + "]" * 40 + "}}\n"), 5, 45, "", "deeper than 32"),
    "a second document": (flow("do:\n  - a: {set: {x: 1}}\n---\n{}\n"), 6, 1, "", "second document"),
    "no YAML": (flow("do: [\n"), 5, 1, "", "not valid YAML"),
    "an unknown call": (flow("do:\n  - a:\n      call: openapi\n"), 6, 13, "/do/0/a/call", "unknown call `openapi`"),
    "a call with nothing": (flow("do:\n  - a:\n      call: infer\n"), 6, 7, "/do/0/a", "needs `with`"),
    "a call without its model": (
        flow("do:\n  - a:\n      call: infer\n      with: {inputs: {}}\n"), 7, 13, "/do/0/a/with", "`model` is missing",
    ),
    "an unknown argument": (
        flow("do:\n  - a:\n      call: decide\n      with: {decision: d, colour: 1}\n"), 7, 27, "/do/0/a/with",
        "unknown key `colour`",
    ),
    "a then that leads nowhere": (
        flow("do:\n  - a:\n      set: {x: 1}\n      then: b\n"), 7, 13, "/do/0/a/then", "leads nowhere",
    ),
    "a case that leads nowhere": (
        flow("do:\n  - a:\n      switch:\n        - c: {when: .x, then: b}\n"), 7, 31, "/do/0/a/switch/0/c/then",
        "leads nowhere",
    ),
    "a then into another list": (
        flow("do:\n  - a:\n      do:\n        - b: {set: {x: 1}, then: c}\n  - c: {set: {x: 1}}\n"), 7, 34,
        "/do/0/a/do/0/b/then", "leads nowhere",
    ),
    "a try without catch": (flow("do:\n  - a:\n      try:\n        - b: {set: {x: 1}}\n"), 6, 7, "/do/0/a", "`catch`"),
    "a caught error with a bad name": (
        flow("do:\n  - a:\n      try:\n        - b: {set: {x: 1}}\n      catch: {as: my-error}\n"), 8, 19,
        "/do/0/a/catch/as", "cannot be a variable",
    ),
    "a caught error that hides the context": (
        flow("do:\n  - a:\n      try:\n        - b: {set: {x: 1}}\n      catch: {as: context}\n"), 8, 19,
        "/do/0/a/catch/as", "cannot be a variable",
    ),
    "expressions beyond measure": (
        flow("do:\n  - a:\n      set:\n        x: ${ " + ".a + " * 14000 + "1 }\n"), 7, 9,
        "/do/0/a/set", "at most 65536",
    ),
    "more steps than allowed": (
        flow("do:\n" + "".join(f"  - s{n}: {{set: {{x: 1}}}}\n" for n in range(501))), 505, 11, "/do/500/s500",
        "more than 500 steps",
    ),
    "something else to use": (
        flow("use: {functions: {}}\ndo:\n  - a: {set: {x: 1}}\n"), 4, 7, "/use", "unknown key `functions`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_said_with_its_place(case):
    text, line, column, pointer, words = case
    with pytest.raises(FlowInvalidError) as caught:
        parse_flow(text)
    error = caught.value
    assert words in error.message
    assert (error.metadata["line"], error.metadata["column"], error.metadata["pointer"]) == (
        str(line), str(column), pointer,
    )  # fmt: skip
    assert error.violations[0].field == "agent.flow"


JQ = {
    # the flow's body: line and column of the mistake
    "plain": ("do:\n  - a:\n      set:\n        x: ${ .b | | }\n", 7, 20),
    "in single quotes": ("do:\n  - a:\n      set:\n        x: '${ \"it''s\" | | }'\n", 7, 26),
    "in double quotes": ('do:\n  - a:\n      set:\n        x: "${ \\"\\u00e9\\" | | }"\n', 7, 29),
    "bare condition": ("do:\n  - a:\n      if: .x ++ 1\n      set: {x: 1}\n", 6, 15),
    "literal block": ("do:\n  - a:\n      set:\n        x: |\n          ${ .a\n            | | 3 }\n", 9, 15),
    "folded block": ("do:\n  - a:\n      set:\n        x: >-\n          ${ .a\n          | | 3 }\n", 9, 13),
    "folded plain": ("do:\n  - a:\n      set:\n        x: ${ .a\n            | | 3 }\n", 8, 15),
    "unknown function": ("do:\n  - a:\n      output:\n        as: nope(1)\n      set: {x: 1}\n", 7, 13),
    "unknown variable": ("do:\n  - a:\n      set: {x: 1}\n      export: {as: $nobody}\n", 7, 20),
    "environment": ("do:\n  - a:\n      set:\n        x: ${ env.HOME }\n", 7, 15),
    "empty": ('do:\n  - a:\n      set:\n        x: "${}"\n', 7, 15),
    "an input at the top": ("do:\n  - a: {set: {x: 1}}\ninput:\n  from: .a[\n", 7, 11),
}


@pytest.mark.parametrize("case", JQ.values(), ids=JQ.keys())
def test_a_mistake_in_an_expression_is_said_with_its_place_in_the_flow(stage, case):
    body, line, column = case
    checker = FlowChecker(stage.sandbox)
    with pytest.raises(FlowInvalidError) as caught:
        stage.run(checker.check(flow(body), agent_id="a", tenant="default"))
    found = (int(caught.value.metadata["line"]), int(caught.value.metadata["column"]))
    assert "jq: " in caught.value.message
    assert found == (line, column), caught.value.message
    assert caught.value.metadata["pointer"]


STRAY = {
    "inside a text": ('do:\n  - a: {set: {x: "Pay ${ .id }?"}}\n', 5, 23, "/do/0/a/set/x"),
    "without its end": ('do:\n  - a: {set: {x: ["${ .text "]}}\n', 5, 20, "/do/0/a/set/x/0"),
    "beside one that is": ('do:\n  - a: {set: {x: "${ .a }", y: "a${"}}\n', 5, 34, "/do/0/a/set/y"),
}


@pytest.mark.parametrize("case", STRAY.values(), ids=STRAY.keys())
def test_what_was_meant_to_be_an_expression_is_not_kept_as_text(stage, case):
    body, line, column, pointer = case
    with pytest.raises(FlowInvalidError, match="would be kept as text") as caught:
        stage.run(FlowChecker(stage.sandbox).check(flow(body), agent_id="a", tenant="default"))
    found = caught.value.metadata
    assert (int(found["line"]), int(found["column"]), found["pointer"]) == (line, column, pointer)


def test_the_documents_name_must_be_the_agents(stage):
    with pytest.raises(FlowInvalidError, match="is `a`, but the agent is `b`") as caught:
        stage.run(FlowChecker(stage.sandbox).check(flow("do:\n  - s: {set: {x: 1}}\n"), agent_id="b", tenant="t"))
    assert (caught.value.metadata["line"], caught.value.metadata["column"]) == ("3", "9")


def test_the_example_is_read_as_it_is(stage):
    text = (EXAMPLE / "agent.yaml").read_text()
    read = stage.run(FlowChecker(stage.sandbox).check(text, agent_id="support-triage", tenant="default"))
    assert [(step.name, step.pointer) for step in read.steps] == [
        ("understand", "/do/0/understand"), ("route", "/do/1/route"), ("open-ticket", "/do/2/open-ticket"),
    ]  # fmt: skip
    assert [step.kind for step in read.steps if isinstance(step, Call)] == ["infer", "decide", "connect"]


def test_yaml_and_json_of_the_same_flow_read_alike():
    text = (EXAMPLE / "agent.yaml").read_text()
    tree = yaml.safe_load(text)
    for written in (json.dumps(tree), json.dumps(tree, indent=2), json.dumps(tree, indent="\t")):
        assert parse_flow(written)[0].steps == parse_flow(text)[0].steps


def test_json_escapes_are_whole_characters():
    tree = {"document": {"dsl": "1.0.0", "name": "a"}, "do": [{"s": {"set": {"x": "\U0001f600 \t/"}}}]}
    step = parse_flow(json.dumps(tree))[0].steps[0]
    assert isinstance(step, Set)
    assert step.value.constant == {"x": "\U0001f600 \t/"}


def test_dates_and_yes_mean_what_json_would_mean():
    step = parse_flow(flow("do:\n  - s: {set: {day: 2020-01-01, n: 1.5, none: null, flag: true}}\n"))[0].steps[0]
    assert isinstance(step, Set)
    assert step.value.constant == {"day": "2020-01-01", "n": 1.5, "none": None, "flag": True}


def test_every_kind_of_step_is_read():
    text = flow(
        "do:\n"
        "  - choose:\n      switch:\n        - big: {when: .n > 3, then: last}\n        - rest: {then: continue}\n"
        "  - guarded:\n      try:\n        - inner: {set: {x: 1}}\n"
        "      catch:\n        errors: {with: {type: t, status: 503}}\n        as: problem\n"
        "        when: $problem.status > 1\n"
        "        do:\n          - after: {set: {y: '${ $problem.title }'}}\n"
        "  - last: {set: {x: 1}, then: end}\n"
    )
    read, expressions = parse_flow(text)
    switch, guarded, last = read.steps
    assert isinstance(switch, Switch)
    assert [case.then for case in switch.cases] == ["last", "continue"]
    assert isinstance(guarded, Try)
    assert guarded.catch.matching == (("type", "t"), ("status", 503))
    assert guarded.catch.steps[0].pointer == "/do/1/guarded/catch/do/0/after"
    assert last.then == "end"
    assert [each.program.strip() for each in expressions] == [".n > 3", "$problem.status > 1", "$problem.title"]


def test_a_name_with_slashes_is_escaped_in_pointers():
    assert parse_flow(flow("do:\n  - x/y~z: {set: {a: 1}}\n"))[0].steps[0].pointer == "/do/0/x~1y~0z"
