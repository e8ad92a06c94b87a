"""Sums read from an ONNX file: a linear model or an ensemble of trees (ai.onnx.ml) right behind the graph's inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from engine.explain.additive import Leaves, Linear

__all__ = ["Form", "read_form"]

Form: TypeAlias = Linear | Leaves
_Box: TypeAlias = tuple[tuple[int, int], NDArray[np.float64], NDArray[np.float64]]
"""A node's tree and number, and what its rows are above and not above, float64 (columns,)."""

_MAX_CELLS = 1 << 20
"""Nodes times columns, or outputs, that are read."""
_MODES = (b"BRANCH_LEQ", b"BRANCH_LT", b"BRANCH_GTE", b"BRANCH_GT")
_LINEAR = ("LinearRegressor", "LinearClassifier")
_TREES = ("TreeEnsembleRegressor", "TreeEnsembleClassifier")
_PASSING = ("Cast", "Identity")


def read_form(path: Path, columns: int) -> Form | None:
    """The sum that a graph computes before anything is made of it; None where it is none that can be read.

    Whether the graph gives what the sum says is for the caller to try: what comes behind it is not looked at.

    Args:
        path: the ONNX file.
        columns: how many the graph's inputs have together, in order.
    """
    graph = onnx.load(str(path), load_external_data=False).graph
    nodes = [node for node in graph.node if node.op_type in _LINEAR + _TREES]
    if len(nodes) != 1 or not _reads_inputs(graph, nodes[0].input[0]):
        return None
    said = {attribute.name: helper.get_attribute_value(attribute) for attribute in nodes[0].attribute}
    try:
        return _linear(said, columns) if nodes[0].op_type in _LINEAR else _leaves(said, columns)
    except (KeyError, IndexError, ValueError, TypeError):
        return None  # attributes that contradict each other; the runtime has its own opinion of them


def _reads_inputs(graph: onnx.GraphProto, name: str) -> bool:
    """Whether a value is the graph's inputs as they are, side by side."""
    made_by = {output: node for node in graph.node for output in node.output}
    inputs = [value.name for value in graph.input]

    def source(value: str) -> str:
        for _ in range(len(graph.node)):
            node = made_by.get(value)
            if node is None or node.op_type not in _PASSING:
                break
            value = node.input[0]
        return value

    name = source(name)
    node = made_by.get(name)
    if node is not None and node.op_type == "Concat":
        return [source(each) for each in node.input] == inputs
    return inputs == [name]


def _linear(said: Mapping[str, Any], columns: int) -> Linear | None:
    weights = np.array(said["coefficients"], np.float64).reshape(-1, columns)
    constant = np.array(said.get("intercepts") or [0.0] * len(weights), np.float64)
    return Linear(weights, constant) if constant.shape == (len(weights),) else None


def _leaves(said: Mapping[str, Any], columns: int) -> Leaves | None:
    """The boxes of all leaves."""
    if said.get("aggregate_function", b"SUM") != b"SUM" or "nodes_values" not in said:
        return None
    key = "target" if "target_ids" in said else "class"
    outputs = max(said.get("n_targets", 0), 1 + max(said[f"{key}_ids"]))
    if len(said["nodes_treeids"]) * max(columns, outputs) > _MAX_CELLS:
        return None
    weights: dict[tuple[int, int], NDArray[np.float64]] = {}
    told = (said[f"{key}_treeids"], said[f"{key}_nodeids"], said[f"{key}_ids"], said[f"{key}_weights"])
    for tree, node, output, weight in zip(*told, strict=True):
        weights.setdefault((tree, node), np.zeros(outputs))[output] += weight
    found = _boxes(said, columns)
    if not found:
        return None
    constant = np.zeros(outputs)
    base = said.get("base_values") or ()
    constant[: len(base)] = base
    worth = [weights.get(place, np.zeros(outputs)) for place, _, _ in found]
    return Leaves(
        np.array([low for _, low, _ in found]), np.array([high for _, _, high in found]), np.array(worth), constant
    )


def _boxes(said: Mapping[str, Any], columns: int) -> list[_Box]:
    """Each leaf and its box, from the root of each tree down; nothing where a node is of a kind that makes no boxes."""
    places = list(zip(said["nodes_treeids"], said["nodes_nodeids"], strict=True))
    at = {place: index for index, place in enumerate(places)}
    roots = dict(reversed(places))  # the first node of each tree
    todo: list[_Box] = [(root, np.full(columns, -np.inf), np.full(columns, np.inf)) for root in roots.items()]
    found: list[_Box] = []
    for _ in places:  # in a tree every node is come to once
        if not todo:
            break
        place, low, high = todo.pop()
        index = at[place]
        mode = said["nodes_modes"][index]
        if mode == b"LEAF":
            found.append((place, low, high))
            continue
        if mode not in _MODES:
            return []
        limit = np.float32(said["nodes_values"][index])
        if mode in (b"BRANCH_LT", b"BRANCH_GTE"):
            limit = np.nextafter(limit, np.float32(-np.inf))  # below it is not above the number before it
        column = said["nodes_featureids"][index]
        under, over = high.copy(), low.copy()
        under[column], over[column] = min(under[column], limit), max(over[column], limit)
        yes, no = ((place[0], said[f"nodes_{way}nodeids"][index]) for way in ("true", "false"))
        if mode in (b"BRANCH_GTE", b"BRANCH_GT"):
            yes, no = no, yes
        todo += [(yes, low, under), (no, over, high)]
    return [] if todo else found
