"""What servers are asked: the models, and the requests as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from inference import grpc_service_pb2
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save

__all__ = ["WORKLOADS", "Bodies", "Workload", "feeds_of", "write_bodies", "write_tiny"]

TINY, ENCODER = "tiny-mlp", "all-minilm-l6-v2"
_MIXED = 64
"""Texts of as many lengths."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of request.

    Attributes:
        name: of the row.
        model: which one is asked.
        lengths: tokens of each request in turn; empty for the tiny model.
        clients: how many ask at once.
    """

    name: str
    model: str
    lengths: tuple[int, ...]
    clients: tuple[int, ...]


WORKLOADS = (
    Workload("tiny MLP", TINY, (), (1, 8, 64)),
    Workload("MiniLM, 32 tokens", ENCODER, (32,), (1, 8, 32)),
    Workload("MiniLM, 128 tokens", ENCODER, (128,), (1, 8)),
    Workload(
        "MiniLM, 8 to 128 tokens",
        ENCODER,
        tuple(int(length) for length in np.random.default_rng(5).permutation(np.linspace(8, 128, _MIXED).round())),
        (32,),
    ),
)


@dataclass(frozen=True, slots=True)
class Bodies:
    """The requests of a workload as files: for servers of the inference protocol, and as JSON for the others."""

    protocol: tuple[Path, ...]
    json: tuple[Path, ...]


def write_tiny(folder: Path) -> None:
    """Write a version of the small model: 16 numbers in, two layers, 4 numbers out."""
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array((random.standard_normal(shape) * 0.3).astype(np.float32), name)

    nodes = [
        helper.make_node("Gemm", ["input", "w1", "b1"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["bent"]),
        helper.make_node("Gemm", ["bent", "w2", "b2"], ["output"]),
    ]
    weights = [weight("w1", 16, 32), weight("b1", 32), weight("w2", 32, 4), weight("b2", 4)]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", w]) for n, w in (("input", 16), ("output", 4))]
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:], weights)
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(folder / "model.onnx"))
    (folder / "model.yaml").write_text(f"kind: onnx\nname: {TINY}\n")


def feeds_of(workload: Workload, lengths: Sequence[int]) -> dict[str, NDArray[np.generic]]:
    """One batch in process, a row a length, padded to the longest; for the tiny model a row a length too."""
    random = np.random.default_rng(len(lengths))
    if workload.model == TINY:
        return {"input": random.random((len(lengths), 16), np.float32)}
    width = max(lengths)
    ids = random.integers(1996, 29000, (len(lengths), width), dtype=np.int64)
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64)
    return {"input_ids": ids * mask, "attention_mask": mask}


def write_bodies(folder: Path, workload: Workload, *, padded: bool = False, wrapped: str = "") -> Bodies:
    """Write a workload's requests, one row each.

    Args:
        folder: where to.
        workload: which.
        padded: whether texts are padded to the longest, for servers whose batches take equal shapes only.
        wrapped: the key of a list that JSON requests stand in, for servers that take rows only so.
    """
    protocol, plain = [], []
    longest = max(workload.lengths, default=0)
    for at, length in enumerate(workload.lengths or (0,)):
        feeds = feeds_of(workload, [length])
        if padded:
            feeds = {name: np.pad(value, ((0, 0), (0, longest - length))) for name, value in feeds.items()}
        asked = grpc_service_pb2.ModelInferRequest(model_name=workload.model)
        for name, value in feeds.items():
            datatype = "FP32" if value.dtype == np.float32 else "INT64"
            asked.inputs.add(name=name, datatype=datatype, shape=value.shape)
            asked.raw_input_contents.append(value.tobytes())
        stem = f"{workload.model}-{longest}-{at}{'-padded' if padded else ''}{wrapped}"
        protocol.append(folder / f"{stem}.message")
        protocol[-1].write_bytes(asked.SerializeToString())
        plain.append(folder / f"{stem}.json")
        row = {name: value.tolist() for name, value in feeds.items()}
        plain[-1].write_text(json.dumps({wrapped: [row]} if wrapped else row))
    return Bodies(tuple(protocol), tuple(plain))
