"""Small decoders: weights by our own names to one ONNX graph in the common form with past and present keys and values.

RMS normalisation, rotary positions, grouped queries, gated feed-forward; the last matrix is the embedding's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from engine.export.graph import GraphBuilder

__all__ = ["DecoderConfig", "export_decoder"]

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """The measures of a decoder."""

    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ff_size: int
    rope_base: float = 10000.0
    epsilon: float = 1e-5


def export_decoder(weights: Weights, config: DecoderConfig, *, positions: int) -> onnx.ModelProto:
    """Build the decoder.

    Inputs are `input_ids` (b, s), `attention_mask` (b, past + s) and `position_ids` (b, s), int64, and for each layer
    `past_key_values.N.key` and `.value`, float32 (b, kv_heads, past, head_dim). Outputs are `logits`, float32
    (b, s, vocab), and `present.N.key` and `.value`, as the past ones with s more.

    Args:
        weights: by name: `embedding`, `N.query`, …
        config: its measures.
        positions: how many positions there are; one beyond is an error of the graph.
    """
    return _Decoder(weights, config, positions).build()


class _Decoder:
    """One export."""

    def __init__(self, weights: Weights, config: DecoderConfig, positions: int) -> None:
        self._weights, self._config, self._positions = weights, config, positions
        self._graph = GraphBuilder("decoder")
        self._presents: list[str] = []

    def build(self) -> onnx.ModelProto:
        graph, config = self._graph, self._config
        embedding = graph.weight("embedding", self._weights["embedding"])
        hidden = graph.op("Gather", embedding, "input_ids")
        mask = self._mask()
        cos, sin = self._rotations()
        for at in range(config.layers):
            hidden = self._attend(hidden, mask, cos, sin, at)
            hidden = self._feed(hidden, at)
        hidden = self._normalise(hidden, "norm")
        logits = graph.op("MatMul", hidden, graph.weight("head", self._weights["embedding"].T))
        pasts = [f"past_key_values.{at}.{part}" for at in range(config.layers) for part in ("key", "value")]
        presents = [f"present.{at}.{part}" for at in range(config.layers) for part in ("key", "value")]
        cache: list[str | int] = ["batch", config.kv_heads, "past", config.head_dim]
        longer: list[str | int] = ["batch", config.kv_heads, "total", config.head_dim]
        ids = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", axis])
            for name, axis in (("input_ids", "new"), ("attention_mask", "total"), ("position_ids", "new"))
        ]
        return graph.build_of(
            [*ids, *(helper.make_tensor_value_info(name, TensorProto.FLOAT, cache) for name in pasts)],
            {
                logits: helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "new", config.vocab_size]),
                **{
                    value: helper.make_tensor_value_info(name, TensorProto.FLOAT, longer)
                    for value, name in zip(self._presents, presents, strict=True)
                },
            },
        )

    def _mask(self) -> str:
        """True where a new token may look, bool (b, 1, new, total): at tokens that are some, and not later ones."""
        graph = self._graph
        new = graph.op("Shape", "input_ids", start=1, end=2)
        total = graph.op("Shape", "attention_mask", start=1, end=2)
        columns = graph.op("Range", graph.scalar(0), graph.op("Squeeze", total), graph.scalar(1))
        first = graph.op("Squeeze", graph.op("Sub", total, new))
        rows = graph.op("Range", first, graph.op("Squeeze", total), graph.scalar(1))
        causal = graph.op(
            "LessOrEqual",
            graph.op("Unsqueeze", columns, graph.integers(0)),
            graph.op("Unsqueeze", rows, graph.integers(1)),
        )
        seen = graph.op("Cast", graph.op("Unsqueeze", "attention_mask", graph.integers(1, 2)), to=TensorProto.BOOL)
        return graph.op("And", seen, causal)

    def _rotations(self) -> tuple[str, str]:
        """Cosines and sines of the new positions, (b, 1, new, head_dim)."""
        graph, half = self._graph, self._config.head_dim // 2
        angles = np.outer(np.arange(self._positions), self._config.rope_base ** -(np.arange(half) / half))
        found = []
        for name, function in (("cos", np.cos), ("sin", np.sin)):
            table = graph.weight(name, np.tile(function(angles), 2).astype(np.float32))
            found.append(graph.op("Unsqueeze", graph.op("Gather", table, "position_ids"), graph.integers(1)))
        return found[0], found[1]

    def _turned(self, value: str, cos: str, sin: str) -> str:
        """(b, heads, new, head_dim) with positions rotated in."""
        graph = self._graph
        one, two = graph.ops("Split", value, outputs=2, axis=3, num_outputs=2)
        swapped = graph.op("Concat", graph.op("Neg", two), one, axis=3)
        return graph.op("Add", graph.op("Mul", value, cos), graph.op("Mul", swapped, sin))

    def _heads(self, hidden: str, name: str, heads: int) -> str:
        graph = self._graph
        value = graph.op("MatMul", hidden, graph.weight(name, self._weights[name]))
        value = graph.op("Reshape", value, graph.integers(0, 0, heads, self._config.head_dim))
        return graph.op("Transpose", value, perm=[0, 2, 1, 3])

    def _attend(self, hidden: str, mask: str, cos: str, sin: str, at: int) -> str:
        graph, config = self._graph, self._config
        x = self._normalise(hidden, f"{at}.attention.norm")
        query = self._turned(self._heads(x, f"{at}.query", config.heads), cos, sin)
        key = self._turned(self._heads(x, f"{at}.key", config.kv_heads), cos, sin)
        value = self._heads(x, f"{at}.value", config.kv_heads)
        key = graph.op("Concat", f"past_key_values.{at}.key", key, axis=2)
        value = graph.op("Concat", f"past_key_values.{at}.value", value, axis=2)
        self._presents += [key, value]
        # Heads of one group stand one after the other: (b, kv_heads, group * new, head_dim) needs no copies of keys.
        new = graph.op("Shape", "input_ids", start=1, end=2)
        query = graph.op("Reshape", query, graph.integers(0, config.kv_heads, -1, config.head_dim))
        scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 1, 3, 2]))
        scores = graph.op("Mul", scores, graph.weight("scale", np.array(config.head_dim**-0.5, np.float32)))
        total = graph.op("Shape", "attention_mask", start=1, end=2)
        batch = graph.op("Shape", "input_ids", start=0, end=1)
        apart = graph.op("Concat", batch, graph.integers(config.heads), new, total, axis=0)
        scores = graph.op(
            "Where", mask, graph.op("Reshape", scores, apart), graph.weight("never", np.array([-1e9], np.float32))
        )
        weights = graph.op("Softmax", scores, axis=-1)
        joined = graph.op("Concat", batch, graph.integers(config.kv_heads, -1), total, axis=0)
        mixed = graph.op("MatMul", graph.op("Reshape", weights, joined), value)
        mixed = graph.op(
            "Reshape",
            mixed,
            graph.op("Concat", batch, graph.integers(config.heads), new, graph.integers(config.head_dim), axis=0),
        )
        mixed = graph.op("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = graph.op("Reshape", mixed, graph.integers(0, 0, config.heads * config.head_dim))
        out = graph.op("MatMul", mixed, graph.weight(f"{at}.out", self._weights[f"{at}.out"]))
        return graph.op("Add", hidden, out)

    def _feed(self, hidden: str, at: int) -> str:
        graph = self._graph
        x = self._normalise(hidden, f"{at}.ff.norm")
        gate, up = (
            graph.op("MatMul", x, graph.weight(name, self._weights[name])) for name in (f"{at}.gate", f"{at}.up")
        )
        inner = graph.op("Mul", graph.op("Mul", gate, graph.op("Sigmoid", gate)), up)
        return graph.op(
            "Add", hidden, graph.op("MatMul", inner, graph.weight(f"{at}.down", self._weights[f"{at}.down"]))
        )

    def _normalise(self, value: str, name: str) -> str:
        scale = self._graph.weight(name, self._weights[name])
        return self._graph.op("RMSNormalization", value, scale, axis=-1, epsilon=self._config.epsilon)
