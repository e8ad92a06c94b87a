"""Which decision graphs may be evaluated at all: their size, their shape, their kinds of node.

Expressions are checked inside the worker, by the engine that will evaluate them.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from mesh.sandbox.errors import DecisionForbiddenNodeError, DecisionInvalidError

__all__ = ["ALLOWED_NODES", "MAX_GRAPH_BYTES", "checked_graph"]

ALLOWED_NODES: Final = frozenset({"inputNode", "outputNode", "decisionTableNode", "expressionNode", "switchNode"})
"""The kinds of node that only compute. Function nodes run JavaScript with an HTTP client; decision nodes load other
graphs; custom nodes call back."""

MAX_GRAPH_BYTES: Final = 1 << 20


def checked_graph(graph: bytes) -> bytes:
    """The graph as the worker gets it: written anew from what was checked, so that both read the same.

    Raises:
        DecisionInvalidError: it is no JSON Decision Model, or larger than `MAX_GRAPH_BYTES`.
        DecisionForbiddenNodeError: it holds a node of another kind than `ALLOWED_NODES`.
    """
    if len(graph) > MAX_GRAPH_BYTES:
        raise DecisionInvalidError(f"{len(graph)} bytes are more than the {MAX_GRAPH_BYTES} allowed")
    try:
        decoded = msgspec.json.decode(graph)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecisionInvalidError(f"it is not valid JSON: {error}") from None
    if not isinstance(decoded, dict):
        raise DecisionInvalidError("it must be a JSON object with nodes and edges")
    nodes, edges = decoded.get("nodes"), decoded.get("edges")
    if not isinstance(nodes, list) or not isinstance(edges, list):
        raise DecisionInvalidError("nodes and edges must be lists")
    for at, node in enumerate(nodes):
        _check_node(at, node)
    # Nothing but these two is evaluated; the rest is the editor's.
    return msgspec.json.encode({"nodes": nodes, "edges": edges})


def _check_node(at: int, node: Any) -> None:  # noqa: ANN401 -- any JSON
    if not isinstance(node, dict) or not isinstance(node.get("id"), str):
        raise DecisionInvalidError(f"nodes[{at}] must be an object with an id")
    kind = node.get("type")
    if kind not in ALLOWED_NODES:
        raise DecisionForbiddenNodeError(
            f"nodes[{at}] is of type {str(kind)[:100]!r}; allowed are {', '.join(sorted(ALLOWED_NODES))}",
            node=node["id"][:100],
        )
