"""Why a decision answered as it did: the trace of its evaluation in words.

The trace itself comes from zen-engine, in the sandbox: by node id its input, output, name, order and `traceData`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

__all__ = ["Fired", "Graph", "Step", "graph_of", "rules_of", "steps_of"]

_MAX_STEPS = 64
_MAX_RULES = 64
"""Rules shown of one table that collects all that match."""
_MAX_SHOWN = 120
"""Characters of one value."""
_MAX_PARTS = 8
"""Values in one sentence."""
_SILENT = frozenset({"inputNode", "outputNode"})
_CELL = re.compile(r"^(?P<field>.*)\[(?P<column>[^\[\]]*)\]$", re.DOTALL)
"""How a trace names a cell: `score[i-score]`."""


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule of a table, or a branch of a switch, that applied.

    Attributes:
        id: its id in the graph.
        number: which it is, from 1.
        description: in the graph's words; of a branch its condition.
        matched: the conditions that were met, by field: the test with the value, `< 0.5 (0.2)`.
    """

    id: str
    number: int
    description: str
    matched: dict[str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """What one node did: its id, its name, its type, in words, and which of its rules applied."""

    node: str
    title: str
    type: str
    text: str
    rules: tuple[Fired, ...]


@dataclass(frozen=True, slots=True)
class _Node:
    """A node of a graph: its name, its type, and its rules or branches by id, with number and description."""

    title: str
    type: str
    rules: dict[str, tuple[int, str]]


Graph = dict[str, _Node]
"""The nodes by id."""


def graph_of(graph: bytes) -> Graph:
    """The nodes of a graph that has been checked."""
    nodes = msgspec.json.decode(graph)["nodes"]
    return {node["id"]: _node(node) for node in nodes}


def rules_of(graph: Graph) -> Iterator[tuple[str, str, str]]:
    """Every rule of every table: the node's id, the rule's id, and how people call it."""
    for node_id, node in graph.items():
        if node.type == "decisionTableNode":
            for rule_id, (number, description) in node.rules.items():
                yield node_id, rule_id, f"{node.title}: {_called(number, description)}"


def steps_of(graph: Graph, trace: Mapping[str, Any]) -> list[Step]:
    """What the nodes that took part did, in order; the first 64."""
    taken = sorted(trace.items(), key=lambda item: item[1].get("order", 0))
    steps = (_step(graph[node_id], node_id, traced) for node_id, traced in taken if node_id in graph)
    return [step for step in steps if step.type not in _SILENT][:_MAX_STEPS]


def _node(node: Mapping[str, Any]) -> _Node:
    content = node.get("content")
    content = content if isinstance(content, dict) else {}
    rows, key, words = content.get("rules"), "_id", "_description"
    if node["type"] == "switchNode":
        rows, key, words = content.get("statements"), "id", "condition"
    rules: dict[str, tuple[int, str]] = {}
    for number, row in enumerate(rows if isinstance(rows, list) else (), start=1):
        if isinstance(row, dict):
            rules[str(row.get(key))] = (number, str(row.get(words) or ""))
    return _Node(str(node.get("name") or node["id"]), node["type"], rules)


def _step(node: _Node, node_id: str, traced: Mapping[str, Any]) -> Step:
    data, output = traced.get("traceData"), traced.get("output")
    if node.type == "decisionTableNode":
        # A table's way may also be repeated over a list, or collect several rules.
        fired = [_fired(node, each) for each in _dicts(data) if "rule" in each][:_MAX_RULES]
        text = _table_text(node, fired, output)
    elif node.type == "switchNode":
        taken = data.get("statements") if isinstance(data, dict) else None
        fired = [_branch(node, each) for each in _dicts(taken)][:_MAX_RULES]
        ways = "; ".join(_called(each.number, each.description, "branch") for each in fired)
        text = f"{node.title}: took {ways}" if ways else f"{node.title}: took no branch"
    else:
        fired = []
        made = {key: each.get("result") for key, each in data.items() if isinstance(each, dict)} if data else output
        text = f"{node.title}: computed {_shown_all(made)}"
    return Step(node_id, node.title, node.type, text, tuple(fired))


def _dicts(data: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 -- any JSON
    """The objects in what is one, or a list of such, of whichever depth."""
    if isinstance(data, dict):
        yield data
    elif isinstance(data, list):
        for each in data:
            yield from _dicts(each)


def _fired(node: _Node, traced: Mapping[str, Any]) -> Fired:
    rule = traced.get("rule")
    rule = rule if isinstance(rule, dict) else {}
    values = traced.get("reference_map")
    values = values if isinstance(values, dict) else {}
    matched = {}
    for key, test in rule.items():
        cell = _CELL.match(key)
        if cell is not None and isinstance(test, str) and test.strip():
            field = cell["field"]
            value = _shown(values[field]) if field in values else test
            matched[field] = test if value == test else f"{test} ({value})"
    rule_id = str(rule.get("_id"))
    number, description = node.rules.get(rule_id, (int(traced.get("index") or 0) + 1, ""))
    return Fired(rule_id, number, description, matched)


def _branch(node: _Node, traced: Mapping[str, Any]) -> Fired:
    branch = str(traced.get("id"))
    number, condition = node.rules.get(branch, (0, ""))
    return Fired(branch, number, condition, {})


def _table_text(node: _Node, fired: list[Fired], output: Any) -> str:  # noqa: ANN401 -- any JSON
    if not fired:
        return f"{node.title}: none of {len(node.rules)} rules applied"
    if len(fired) > 1:
        numbers = ", ".join(str(each.number) for each in fired[:_MAX_PARTS])
        return f"{node.title}: rules {numbers}{' and more' if len(fired) > _MAX_PARTS else ''} of {len(node.rules)}"
    rule = fired[0]
    met = ", ".join(f"{field} is {test}" for field, test in list(rule.matched.items())[:_MAX_PARTS])
    reason = f", as {met}" if met else ", which takes anything"
    said = _called(rule.number, rule.description, of=len(node.rules))
    return f"{node.title}: {said}{reason}; gives {_shown_all(output)}"


def _called(number: int, description: str, kind: str = "rule", *, of: int = 0) -> str:
    total = f" of {of}" if of else ""
    return f"{kind} {number}{total} ({_cut(description)})" if description else f"{kind} {number}{total}"


def _shown_all(output: Any) -> str:  # noqa: ANN401 -- any JSON
    if not isinstance(output, dict):
        return _shown(output)
    said = [f"{key} = {_shown(value)}" for key, value in list(output.items())[:_MAX_PARTS]]
    return ", ".join(said) + (" and more" if len(output) > _MAX_PARTS else "")


def _shown(value: Any) -> str:  # noqa: ANN401 -- any JSON
    return _cut(msgspec.json.encode(value).decode())


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
