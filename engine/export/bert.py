"""BERT encoders: Hugging Face weights and `config.json` to one ONNX graph, without torch.

Pooling is not in the graph: the model's manifest says how tokens become one vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from engine.export.graph import GraphBuilder

__all__ = ["BertConfig", "UnsupportedBertError", "export_bert", "read_config"]

Weights = Mapping[str, NDArray[np.float32]]


class UnsupportedBertError(ValueError):
    """The weights are not of a BERT encoder that this exporter knows."""


@dataclass(frozen=True, slots=True)
class BertConfig:
    """The measures of an encoder, as `config.json` names them."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    layer_norm_eps: float


def read_config(config: Mapping[str, object]) -> BertConfig:
    """Take the measures from a parsed `config.json`.

    Raises:
        UnsupportedBertError: another architecture, activation or position encoding.
    """
    for key, expected in (("model_type", "bert"), ("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        if config.get(key, expected) != expected:
            raise UnsupportedBertError(f"config.json: {key} is {config[key]!r}; only {expected!r} can be exported")
    try:
        return BertConfig(
            hidden_size=int(str(config["hidden_size"])),
            num_hidden_layers=int(str(config["num_hidden_layers"])),
            num_attention_heads=int(str(config["num_attention_heads"])),
            layer_norm_eps=float(str(config.get("layer_norm_eps", 1e-12))),
        )
    except (KeyError, ValueError) as error:
        raise UnsupportedBertError(f"config.json: {error} is missing or not a number") from None


def export_bert(weights: Weights, config: BertConfig) -> onnx.ModelProto:
    """Build the encoder.

    Inputs are `input_ids` and `attention_mask`, int64, shape (batch, sequence), mask 1 for a token and 0 for padding;
    the output is `last_hidden_state`, float32, shape (batch, sequence, hidden_size). All token types are 0.

    Raises:
        UnsupportedBertError: a weight is missing or has another shape than the configuration says.
    """
    return _Encoder(weights, config).build()


class _Encoder:
    """One export: the weights, the graph so far, and BERT's blocks on top of it."""

    def __init__(self, weights: Weights, config: BertConfig) -> None:
        self._weights = weights
        self._config = config
        self._graph = GraphBuilder("bert")

    def build(self) -> onnx.ModelProto:
        length = self._graph.op("Shape", "input_ids", start=1, end=2)
        mask = self._mask(length)
        hidden = self._embed(length)
        for layer in range(self._config.num_hidden_layers):
            hidden = self._layer(hidden, mask, f"encoder.layer.{layer}.")
        axes = ["batch", "sequence"]
        return self._graph.build(
            {"input_ids": axes, "attention_mask": axes},
            "last_hidden_state",
            [*axes, self._config.hidden_size],
            hidden,
        )

    def _take(self, name: str) -> NDArray[np.float32]:
        try:
            return self._weights[name]
        except KeyError:
            raise UnsupportedBertError(f"the weights have no {name}: not a BERT encoder") from None

    def _embed(self, length: str) -> str:
        """Word, position and type embeddings, normalised; the one type is folded into the positions."""
        graph = self._graph
        positions = self._take("embeddings.position_embeddings.weight")
        positions = positions + self._take("embeddings.token_type_embeddings.weight")[0]
        words = graph.weight("words", self._take("embeddings.word_embeddings.weight"))
        at_each_place = graph.op(
            "Slice", graph.weight("positions", positions), graph.integers(0), length, graph.integers(0)
        )
        return self._normalise(graph.op("Add", graph.op("Gather", words, "input_ids"), at_each_place), "embeddings.")

    def _mask(self, length: str) -> str:
        """True where a token may be looked at, bool, shape (batch, 1, sequence, sequence)."""
        graph = self._graph
        rows = graph.op("Unsqueeze", "attention_mask", graph.integers(1, 2))
        square = graph.op("Concat", graph.integers(1, 1), length, graph.integers(1), axis=0)
        return graph.op("Cast", graph.op("Expand", rows, square), to=onnx.TensorProto.BOOL)

    def _layer(self, hidden: str, mask: str, prefix: str) -> str:
        """Attention and feed-forward, each added to its input and normalised afterwards."""
        graph = self._graph
        attended = self._linear(self._attend(hidden, mask, prefix), prefix + "attention.output.dense")
        hidden = self._normalise(graph.op("Add", attended, hidden), prefix + "attention.output.")
        widened = graph.op("Gelu", self._linear(hidden, prefix + "intermediate.dense"))
        narrowed = self._linear(widened, prefix + "output.dense")
        return self._normalise(graph.op("Add", narrowed, hidden), prefix + "output.")

    def _attend(self, hidden: str, mask: str, prefix: str) -> str:
        """Multi-head attention; the three projections are one matrix product."""
        graph = self._graph
        names = [f"{prefix}attention.self.{part}" for part in ("query", "key", "value")]
        matrix = np.concatenate([self._take(f"{name}.weight").T for name in names], axis=1)
        bias = np.concatenate([self._take(f"{name}.bias") for name in names])
        joined = graph.op("MatMul", hidden, graph.weight(f"{prefix}qkv.weight", matrix))
        joined = graph.op("Add", joined, graph.weight(f"{prefix}qkv.bias", bias))
        query, key, value = graph.ops("Split", joined, outputs=3, axis=2, num_outputs=3)
        heads = self._config.num_attention_heads
        return graph.op("Attention", query, key, value, mask, q_num_heads=heads, kv_num_heads=heads)

    def _linear(self, value: str, name: str) -> str:
        weight = self._graph.weight(f"{name}.weight", self._take(f"{name}.weight").T)
        bias = self._graph.weight(f"{name}.bias", self._take(f"{name}.bias"))
        return self._graph.op("Add", self._graph.op("MatMul", value, weight), bias)

    def _normalise(self, value: str, prefix: str) -> str:
        scale, bias = (
            self._graph.weight(f"{prefix}LayerNorm.{part}", self._take(f"{prefix}LayerNorm.{part}"))
            for part in ("weight", "bias")
        )
        return self._graph.op("LayerNormalization", value, scale, bias, axis=-1, epsilon=self._config.layer_norm_eps)
