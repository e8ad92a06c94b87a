"""Decision graphs inside a worker: checked, compiled once, evaluated often.

Which kinds of node a graph may hold is checked before it gets here, in `mesh.sandbox.graphs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import zen

from mesh.sandboxed.frames import Status
from mesh.sandboxed.recent import Recent
from mesh.sandboxed.refusal import Refusal, capped

__all__ = ["Decisions"]

_WARM_UP: Final = json.dumps(
    {
        "nodes": [
            {"id": "i", "type": "inputNode", "name": "i"},
            {
                "id": "x",
                "type": "expressionNode",
                "name": "x",
                "content": {"expressions": [{"id": "e", "key": "k", "value": "a + 1"}]},
            },
            {"id": "o", "type": "outputNode", "name": "o"},
        ],
        "edges": [
            {"id": "1", "sourceId": "i", "targetId": "x", "type": "edge"},
            {"id": "2", "sourceId": "x", "targetId": "o", "type": "edge"},
        ],
    }
)


class Decisions:
    """Compiles and evaluates graphs.

    Args:
        max_output_bytes: the largest JSON text of an answer, trace included.
        entries: how many compiled graphs are kept.
        kept_bytes: how many bytes of graphs are kept compiled.
    """

    def __init__(self, max_output_bytes: int, *, entries: int = 128, kept_bytes: int = 4 << 20) -> None:
        self._max_output_bytes = max_output_bytes
        self._engine = zen.ZenEngine()
        self._compiled: Recent[Any] = Recent(entries, kept_bytes)
        # The first evaluation maps memory that must not count against the tenant's.
        self._engine.create_decision(_WARM_UP).evaluate('{"a": 1}', {"trace": True})

    def decide(self, digest: bytes, graph: bytes, context: bytes, *, trace: bool) -> bytes:
        """Evaluate the graph of that hash.

        Args:
            digest: names the graph.
            graph: the graph itself; empty when it is expected to be here already.
            context: the input, JSON.
            trace: ask for every node's input and output.

        Returns:
            JSON object with `result`, `performance` and, if asked for, `trace`.

        Raises:
            Refusal: the graph is not here, is wrong, failed, or its answer is too large.
        """
        decision = self._compiled.get(digest)
        if decision is None:
            if not graph:
                raise Refusal(Status.MISSING)
            decision = self.compile(graph)
            self._compiled.put(digest, decision, len(graph))
        try:
            answer = decision.evaluate(context, {"trace": True} if trace else None)
        except RuntimeError as error:
            raise _refusal(Status.DECISION_RUNTIME, str(error)) from None
        encoded = json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode()
        if len(encoded) > self._max_output_bytes:
            raise Refusal(Status.TOO_LARGE, bytes=len(encoded))
        return encoded

    def compile(self, graph: bytes) -> Any:  # noqa: ANN401 -- the library has no types
        """The compiled graph, every expression in it checked.

        The engine itself would take a cell that it cannot parse for one that does not match.

        Raises:
            Refusal: the graph or one of its expressions is wrong.
        """
        for node, where, expression, unary in _expressions(json.loads(graph)):
            mistake = _mistake(expression, unary=unary)
            if mistake:
                message = f"{where}: {mistake}: {expression}"
                raise Refusal(Status.DECISION_INVALID, message=capped(message), node=node)
        try:
            decision = self._engine.create_decision(graph.decode())
            decision.validate()
        except RuntimeError as error:
            raise _refusal(Status.DECISION_INVALID, str(error)) from None
        return decision


def _mistake(expression: str, *, unary: bool) -> str:
    """What is wrong with an expression; empty where nothing is.

    Unary tests are compiled, as the library's own check of them refuses `< 0.5`.
    """
    if not unary:
        found = zen.validate_expression(expression)
        return str(found["source"]) if found is not None else ""
    try:
        zen.compile_unary_expression(expression)
    except RuntimeError as error:
        try:
            return str(json.loads(str(error).split("\n", 1)[0])["source"])
        except (ValueError, KeyError):
            return "not a unary test"
    return ""


def _expressions(graph: dict[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    """Every expression: the node's id, where in the node, the text, whether it is a unary test."""
    for node in graph["nodes"]:
        content = node.get("content")
        if not isinstance(content, dict):
            continue
        if node["type"] == "decisionTableNode":
            found = _table_expressions(content)
        elif node["type"] == "expressionNode":
            found = (
                (f"expression {row.get('key', '')!r}", row.get("value"), False) for row in _rows(content, "expressions")
            )
        else:
            found = (
                (f"condition {at}", row.get("condition"), False)
                for at, row in enumerate(_rows(content, "statements"), start=1)
            )
        for where, expression, unary in (("inputField", content.get("inputField"), False), *found):
            if isinstance(expression, str) and expression.strip():
                yield str(node["id"]), where, expression, unary


def _table_expressions(table: dict[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """A table's cells: an input column with a field holds unary tests, every other cell a whole expression."""
    inputs = [(str(column.get("id")), column.get("field")) for column in _rows(table, "inputs")]
    outputs = [str(column.get("id")) for column in _rows(table, "outputs")]
    for _, field in inputs:
        yield "input field", field, False
    for at, rule in enumerate(_rows(table, "rules"), start=1):
        for column, field in inputs:
            yield f"rule {at}, input {column!r}", rule.get(column), bool(field and field.strip())
        for column in outputs:
            yield f"rule {at}, output {column!r}", rule.get(column), False


def _rows(content: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows = content.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _refusal(status: Status, text: str) -> Refusal:
    """The engine's error, which is JSON most of the time, as message and node."""
    try:
        found = json.loads(text)
    except ValueError:
        return Refusal(status, message=capped(" ".join(text.split())), node="")
    if not isinstance(found, dict):
        return Refusal(status, message=capped(text), node="")
    source = found.get("source", found)
    node = found.get("nodeId") or (source.get("nodeId") if isinstance(source, dict) else "")
    message = source if isinstance(source, str) else json.dumps(source)
    return Refusal(status, message=capped(message), node=str(node or ""))
