"""Decisions: their examples, their versions, their reasons, and many inputs at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import field_mask_pb2, json_format
from hypothesis import given
from hypothesis import strategies as st
from tiation.engine.v1 import decision_pb2 as pb

import mesh
from engine.decisions.errors import DecisionExamplesError, DecisionNotFoundError
from engine.decisions.evaluation import Evaluator
from engine.decisions.examples import Example, differences, run_examples
from engine.decisions.graphs import Decisions
from engine.errors import ElementError
from engine.servicers.decisions import DecisionServicer
from mesh.catalogue import NotFoundError
from mesh.db import open_database
from mesh.entry_store import EntryStore
from mesh.errors import InvalidError
from mesh.etag import StaleEtagError
from mesh.migrate import migrate
from mesh.pagination import Pages
from mesh.sandbox import SandboxOutputTooLargeError, SandboxPool
from mesh.sandbox.errors import DecisionInvalidError
from mesh.sandboxed.recent import Recent

ROUTING = (Path(__file__).parents[3] / "examples" / "support-triage" / "support-routing.json").read_text()
NAME = "tenants/default/decisions/d"
PARENT = "tenants/default"


def expression(value: str) -> str:
    """A graph that gives `k`."""
    return json.dumps({
        "nodes": [
            {"id": "i", "type": "inputNode", "name": "in"},
            {"id": "x", "type": "expressionNode", "name": "Sum", "content": {
                "expressions": [{"id": "e", "key": "k", "value": value}]}},
            {"id": "o", "type": "outputNode", "name": "out"},
        ],
        "edges": [
            {"id": "1", "sourceId": "i", "targetId": "x", "type": "edge"},
            {"id": "2", "sourceId": "x", "targetId": "o", "type": "edge"},
        ],
    })  # fmt: skip


def branching() -> str:
    """A graph with a switch, and a table that collects what matches behind one of its branches."""
    table = {
        "hitPolicy": "collect",
        "inputs": [{"id": "ia", "field": "a", "name": "A"}],
        "outputs": [{"id": "ob", "field": "b", "name": "B"}],
        "rules": [{"_id": "r1", "ia": "> 0", "ob": "1"}, {"_id": "r2", "ia": "> 1", "ob": "2"}],
    }
    statements = [{"id": "s1", "condition": "a > 0"}, {"id": "s2", "condition": "a <= 0"}]
    nodes = [
        {"id": "i", "type": "inputNode", "name": "in"},
        {"id": "s", "type": "switchNode", "name": "Sign", "content": {"hitPolicy": "first", "statements": statements}},
        {"id": "t", "type": "decisionTableNode", "name": "All", "content": {**table, "outputPath": "found"}},
        {"id": "o", "type": "outputNode", "name": "out"},
    ]
    edges = [
        {"id": "1", "sourceId": "i", "targetId": "s", "type": "edge"},
        {"id": "2", "sourceId": "s", "targetId": "t", "sourceHandle": "s1", "type": "edge"},
        {"id": "3", "sourceId": "t", "targetId": "o", "type": "edge"},
        {"id": "4", "sourceId": "s", "targetId": "o", "sourceHandle": "s2", "type": "edge"},
    ]
    return json.dumps({"nodes": nodes, "edges": edges})


@pytest.fixture
async def servicer(tmp_path: Path) -> AsyncIterator[DecisionServicer]:
    database = open_database(f"sqlite:///{tmp_path / 'engine.db'}")
    migrate(database.engine, Path(mesh.__path__[0]) / "migrations" / "versions", version_table="mesh_version")
    sandbox = SandboxPool()
    yield DecisionServicer(Decisions(database, EntryStore()), Pages(b"secret"), sandbox)
    await sandbox.close()
    await database.close()


def example(name: str, given: dict[str, Any], output: dict[str, Any], *, exact: bool = False) -> pb.DecisionExample:
    return pb.DecisionExample(
        name=name,
        input=json_format.ParseDict(given, pb.DecisionExample().input),
        output=json_format.ParseDict(output, pb.DecisionExample().output),
        exact=exact,
    )


async def create(servicer: DecisionServicer, graph: str, *examples: pb.DecisionExample, only: bool = False):
    made = pb.Decision(graph=graph, examples=examples)
    request = pb.CreateDecisionRequest(parent=PARENT, decision_id="d", decision=made, validate_only=only)
    return await servicer.CreateDecision(request, None)


async def update(servicer: DecisionServicer, *paths: str, only: bool = False, **fields: Any):
    made = pb.Decision(name=NAME, **fields)
    mask = field_mask_pb2.FieldMask(paths=paths)
    request = pb.UpdateDecisionRequest(decision=made, update_mask=mask, validate_only=only)
    return await servicer.UpdateDecision(request, None)


async def decide(servicer: DecisionServicer, facts: dict[str, Any], version: int = 0, *, trace: bool = False):
    request = pb.DecideRequest(name=NAME, version=version, trace=trace)
    json_format.ParseDict(facts, request.input)
    return await servicer.Decide(request, None)


async def test_a_decision_is_kept_only_if_it_answers_its_examples(servicer):
    right, wrong = example("two", {"a": 1}, {"k": 2}), example("three", {"a": 1}, {"k": 3})
    failing = example("no sum", {"a": "x"}, {"k": 1})
    for only in (True, False):
        with pytest.raises(DecisionExamplesError) as refused:
            await create(servicer, expression("a + 1"), right, wrong, failing, only=only)
        assert "2 of 3 examples" in refused.value.message
        fields = {each.field: each.description for each in refused.value.violations}
        assert fields["decision.examples[1]"] == "`three`: k: expected 3, got 2"
        assert fields["decision.examples[2]"].startswith("`no sum`: ")
        with pytest.raises(NotFoundError):
            await servicer.GetDecision(pb.GetDecisionRequest(name=NAME), None)
    made = await create(servicer, expression("a + 1"), right)
    assert (made.version, list(made.examples)) == (1, [right])
    (listed,) = (await servicer.ListDecisions(pb.ListDecisionsRequest(parent=PARENT), None)).decisions
    assert (listed.graph, len(listed.examples)) == (made.graph, 0)


async def test_a_change_must_answer_the_examples_that_stay_and_the_ones_that_come(servicer):
    await create(servicer, expression("a + 1"), example("two", {"a": 1}, {"k": 2}))
    with pytest.raises(DecisionExamplesError):
        await update(servicer, graph=expression("a + 2"))
    with pytest.raises(DecisionExamplesError):
        await update(servicer, examples=[example("three", {"a": 1}, {"k": 3})])
    with pytest.raises(DecisionExamplesError):
        await update(servicer, graph=expression("a + 2"), only=True)
    both = await update(servicer, graph=expression("a + 2"), examples=[example("three", {"a": 1}, {"k": 3})])
    assert both.version == 2
    none = await update(servicer, "examples")
    assert (none.version, len(none.examples)) == (3, 0)
    assert (await update(servicer, labels={"a": "b"})).version == 3
    assert (await update(servicer, graph=expression("a + 2"))).version == 3


async def test_versions_are_read_listed_newest_first_and_brought_back(servicer):
    await create(servicer, expression("a + 1"), example("two", {"a": 1}, {"k": 2}))
    await update(servicer, "examples")
    for at in range(2, 12):
        await update(servicer, graph=expression(f"a + {at}"))
    seen, token = [], ""
    while True:
        request = pb.ListDecisionVersionsRequest(parent=NAME, page_size=5, page_token=token)
        page = await servicer.ListDecisionVersions(request, None)
        seen += [each.version for each in page.decision_versions]
        assert not any(each.graph or each.examples for each in page.decision_versions)
        token = page.next_page_token
        if not token:
            break
    assert seen == list(range(12, 0, -1))
    first = await servicer.GetDecisionVersion(pb.GetDecisionVersionRequest(name=f"{NAME}/versions/1"), None)
    assert (first.version, first.graph, len(first.examples)) == (1, expression("a + 1"), 1)
    back = await update(servicer, graph=first.graph, examples=first.examples)
    assert (back.version, back.graph) == (13, first.graph)
    assert (await decide(servicer, {"a": 1}, 4)).result["k"] == 4
    assert (await decide(servicer, {"a": 1})).version == 13
    with pytest.raises(DecisionNotFoundError, match="no version 14; the newest is 13"):
        await decide(servicer, {"a": 1}, 14)
    with pytest.raises(NotFoundError):
        await servicer.ListDecisionVersions(pb.ListDecisionVersionsRequest(parent="tenants/t/decisions/none"), None)


async def test_an_alias_names_versions_and_draws_by_weight(servicer):
    await create(servicer, expression("a + 1"))
    await update(servicer, graph=expression("a + 2"))
    weights = pb.Decision(name=NAME)
    weights.aliases["production"].weights[1] = 1
    weights.aliases["canary"].weights.update({1: 90, 2: 10})
    made = await update(servicer, aliases=weights.aliases)
    assert (made.version, dict(made.aliases["canary"].weights)) == (2, {1: 90, 2: 10})

    async def asked(**fields: Any) -> int:
        request = pb.DecideRequest(name=NAME, **fields)
        json_format.ParseDict({"a": 1}, request.input)
        return (await servicer.Decide(request, None)).version

    assert await asked(alias="production") == 1
    drawn = [await asked(alias="canary", sticky_key=f"customer-{at}") for at in range(200)]
    assert 5 <= drawn.count(2) <= 40
    assert [await asked(alias="canary", sticky_key=f"customer-{at}") for at in range(20)] == drawn[:20]
    assert {await asked(alias="canary") for _ in range(200)} == {1, 2}
    with pytest.raises(DecisionNotFoundError, match="no alias `none`; it has canary, production"):
        await asked(alias="none")
    with pytest.raises(InvalidError, match="goes without"):
        await asked(alias="production", version=1)
    for name, version in (("production", 3), ("Production", 1)):
        wrong = pb.Decision()
        wrong.aliases[name].weights[version] = 1
        with pytest.raises(InvalidError, match=r"decision\.aliases"):
            await update(servicer, aliases=wrong.aliases)
    assert not (await update(servicer, "aliases")).aliases


async def test_a_stale_etag_is_refused_before_a_new_version_is_made(servicer):
    made = await create(servicer, expression("a + 1"))
    await update(servicer, graph=expression("a + 2"))
    with pytest.raises(StaleEtagError):
        await update(servicer, graph=expression("a + 3"), etag=made.etag)
    assert (await servicer.GetDecision(pb.GetDecisionRequest(name=NAME), None)).version == 2


async def test_an_answer_says_which_rule_fired_and_on_what(servicer):
    await create(servicer, ROUTING)
    answer = await decide(servicer, {"intent": "billing", "score": 0.9, "tier": "free"})
    (step,) = answer.steps
    assert step.text == (
        'Routing: rule 9 of 14 (Money), as intent is "billing"; gives queue = "billing", '
        'priority = "high", sla_hours = 8'
    )
    (rule,) = step.rules
    assert (rule.id, rule.number, rule.description) == ("r9", 9, "Money")
    assert dict(rule.matched) == {"intent": '"billing"'}
    assert not answer.trace.fields
    unsure = await decide(servicer, {"intent": "billing", "score": 0.2, "tier": "free"})
    assert dict(unsure.steps[0].rules[0].matched) == {"score": "< 0.5 (0.2)"}
    traced = await decide(servicer, {"intent": "billing", "score": 0.9, "tier": "free"}, trace=True)
    assert set(traced.trace.fields) == {"request", "routing", "response"}


async def test_switches_and_tables_that_collect_say_what_they_took(servicer):
    await create(servicer, branching())
    both = await decide(servicer, {"a": 2})
    assert [step.title for step in both.steps] == ["Sign", "All"]
    assert both.steps[0].text == "Sign: took branch 1 (a > 0)"
    assert [rule.number for rule in both.steps[1].rules] == [1, 2]
    assert both.steps[1].text == "All: rules 1, 2 of 2"
    assert [step.text for step in (await decide(servicer, {"a": 0})).steps] == ["Sign: took branch 2 (a <= 0)"]


async def test_a_trace_that_is_too_large_costs_the_reasons_and_not_the_answer(servicer):
    await create(servicer, expression("len(a)"))
    facts = {"a": "x" * 600_000}
    answer = await decide(servicer, facts)
    assert answer.result["k"] == 600_000
    assert len(answer.steps) == 0
    with pytest.raises(SandboxOutputTooLargeError):
        await decide(servicer, facts, trace=True)


async def test_testing_reports_each_example_and_the_rules_that_none_made_fire(servicer):
    await create(
        servicer, ROUTING, example("money", {"intent": "billing", "score": 1, "tier": "x"}, {"priority": "high"})
    )
    report = await servicer.TestDecision(pb.TestDecisionRequest(name=NAME), None)
    assert (report.version, report.passed_count, report.failed_count) == (1, 1, 0)
    assert len(report.unused_rules) == 13
    assert "Routing: rule 3 (Legal deadlines apply to everyone)" in report.unused_rules
    given = [example("exact", {"intent": "sales", "score": 1, "tier": "x"}, {"queue": "sales"}, exact=True)]
    report = await servicer.TestDecision(pb.TestDecisionRequest(name=NAME, examples=given), None)
    assert (report.passed_count, report.failed_count) == (0, 1)
    assert list(report.results[0].differences) == [
        'priority: not expected, got "normal"',
        "sla_hours: not expected, got 24",
    ]
    assert report.results[0].steps[0].rules[0].number == 12
    other = await servicer.TestDecision(pb.TestDecisionRequest(name=NAME, graph=expression("1 + 1")), None)
    assert list(other.results[0].differences) == ['priority: expected "high", got nothing']
    with pytest.raises(DecisionInvalidError):
        await servicer.TestDecision(pb.TestDecisionRequest(name=NAME, graph="{}"), None)


async def test_examples_of_one_name_or_of_too_many_bytes_are_refused(servicer):
    twice = example("same", {"a": 1}, {"k": 2})
    with pytest.raises(InvalidError) as refused:
        await create(servicer, expression("a + 1"), twice, twice)
    assert refused.value.violations[0].field == "decision.examples[1].name"
    large = example("large", {"a": 1, "b": "x" * (1 << 20)}, {"k": 2})
    with pytest.raises(InvalidError, match="bytes of JSON"):
        await create(servicer, expression("a + 1"), large)


async def test_many_inputs_are_answered_in_their_order_and_a_wrong_one_is_named(servicer):
    await create(servicer, expression("a + 1"))
    request = pb.BatchDecideRequest(name=NAME)
    for at in range(100):
        request.inputs.add().update({"a": at})
    answer = await servicer.BatchDecide(request, None)
    assert [int(each.result["k"]) for each in answer.answers] == list(range(1, 101))
    assert all(each.version == 1 and each.steps[0].text.startswith("Sum: computed k = ") for each in answer.answers)
    request.inputs[70].update({"a": "x"})
    with pytest.raises(ElementError, match=r"^inputs\[70\]: ") as refused:
        await servicer.BatchDecide(request, None)
    assert refused.value.violations[0].field == "inputs[70]"


async def test_answers_that_are_too_much_together_are_refused(servicer):
    await create(servicer, expression("a"))
    request = pb.BatchDecideRequest(name=NAME)
    for _ in range(40):
        request.inputs.add().update({"a": "x" * 500_000})
    with pytest.raises(ElementError, match="ask for fewer"):
        await servicer.BatchDecide(request, None)


async def test_examples_that_run_for_ever_end_the_test_and_not_the_engine():
    sandbox = SandboxPool(deadline_s=0.2)
    graph = expression("sum(map([0..3000000], # * 2)) + a")
    evaluator = Evaluator(sandbox, NAME, graph, "default", Recent(4, 1 << 20))
    results = await run_examples([Example(f"e{at}", {"a": at}, {}) for at in range(20)], evaluator.evaluate)
    await sandbox.close()
    assert not any(result.passed for result in results)
    assert [result.error.startswith("not run") for result in results] == [False] * 3 + [True] * 17


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text(max_size=3),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=2), below, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=2), json_values, max_size=3))
def test_every_answer_is_as_it_says_and_differs_from_one_with_another_leaf(answer):
    assert differences(Example("e", {}, answer, exact=True), answer) == []
    assert differences(Example("e", {}, answer), {**answer, "more!": 1}) == []
    assert differences(Example("e", {}, answer, exact=True), {**answer, "more!": 1}) == ["more!: not expected, got 1"]
    assert differences(Example("e", {}, {**answer, "more!": True}), {**answer, "more!": 1}) == [
        "more!: expected true, got 1"
    ]


def test_differences_name_the_path():
    wanted = {"a": {"b": [1, {"c": 2}]}, "d": 0.1 + 0.2}
    assert differences(Example("e", {}, wanted), {"a": {"b": [1, {"c": 3, "x": 1}]}, "d": 0.3}) == [
        "a.b[1].c: expected 2, got 3"
    ]
    assert differences(Example("e", {}, wanted), {"a": {"b": [1]}, "d": 0.3}) == ['a.b: expected [1,{"c":2}], got [1]']
