"""The decoder as it is trained: forward, loss, gradients, in numpy.

RMS normalisation, rotary positions, grouped queries and gated feed-forward, as in LLaMA (arXiv:2302.13971) and
GQA (arXiv:2305.13245). `engine.export.decoder` writes the same network as an ONNX graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.export.decoder import DecoderConfig

__all__ = ["Network", "fresh_weights"]

Array: TypeAlias = NDArray[Any]
"""FP32; the test of the gradients gives FP64."""
Ids: TypeAlias = NDArray[np.int64]


def fresh_weights(config: DecoderConfig, random: np.random.Generator) -> dict[str, Array]:
    """Weights to begin with, named as the exporter reads them; the last matrix of a block starts smaller."""
    d, f = config.hidden_size, config.ff_size
    q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim

    def matrix(rows: int, columns: int, scale: float = 1.0) -> Array:
        made: Array = (random.standard_normal((rows, columns)) * scale * rows**-0.5).astype(np.float32)
        return made

    weights = {"embedding": (random.standard_normal((config.vocab_size, d)) * 0.05).astype(np.float32)}
    small = (2 * config.layers) ** -0.5
    for at in range(config.layers):
        weights |= {
            f"{at}.attention.norm": np.ones(d, np.float32),
            f"{at}.query": matrix(d, q),
            f"{at}.key": matrix(d, kv),
            f"{at}.value": matrix(d, kv),
            f"{at}.out": matrix(q, d, small),
            f"{at}.ff.norm": np.ones(d, np.float32),
            f"{at}.gate": matrix(d, f),
            f"{at}.up": matrix(d, f),
            f"{at}.down": matrix(f, d, small),
        }
    return weights | {"norm": np.ones(d, np.float32)}


class Network:
    """Forward and backward.

    Args:
        config: its measures.
        window: the longest row that it is given.
    """

    def __init__(self, config: DecoderConfig, window: int) -> None:
        self._config = config
        half = config.head_dim // 2
        angles = np.outer(np.arange(window), config.rope_base ** -(np.arange(half) / half))
        self._cos, self._sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        self._mask = np.triu(np.full((window, window), -1e9, np.float32), 1)

    def loss(self, weights: Mapping[str, Array], ids: Ids, targets: Ids) -> float:
        """Mean negative log-probability of the targets; ids and targets are int64 (b, t)."""
        return self._forward(weights, ids, targets)[0]

    def gradients(self, weights: Mapping[str, Array], ids: Ids, targets: Ids) -> tuple[float, dict[str, Array]]:
        """The loss, and its gradient by every weight."""
        loss, hidden, normed, probabilities, tapes = self._forward(weights, ids, targets)
        b, t = ids.shape
        flat = probabilities.reshape(b * t, -1)
        flat[np.arange(b * t), targets.ravel()] -= 1
        flat /= b * t
        embedding = weights["embedding"]
        gradients = {"embedding": flat.T @ normed.reshape(b * t, -1)}
        back = (flat @ embedding).reshape(hidden.shape)
        back, gradients["norm"] = _norm_back(back, hidden, weights["norm"], self._config.epsilon)
        for at in reversed(range(self._config.layers)):
            back = self._feed_back(weights, gradients, at, back, tapes[at])
            back = self._attend_back(weights, gradients, at, back, tapes[at])
        np.add.at(gradients["embedding"], ids.ravel(), back.reshape(b * t, -1))
        return loss, gradients

    def _forward(self, weights: Mapping[str, Array], ids: Ids, targets: Ids) -> tuple[float, Array, Array, Array, Any]:
        hidden = weights["embedding"][ids]
        tapes: list[dict[str, Array]] = []
        for at in range(self._config.layers):
            tape: dict[str, Array] = {}
            hidden = self._attend(weights, at, hidden, tape)
            hidden = self._feed(weights, at, hidden, tape)
            tapes.append(tape)
        normed = _norm(hidden, weights["norm"], self._config.epsilon)
        logits = normed @ weights["embedding"].T
        probabilities = _softmax(logits)
        chosen = np.take_along_axis(probabilities, targets[..., None], -1)
        return float(-np.log(chosen + 1e-20).mean()), hidden, normed, probabilities, tapes

    def _heads(self, value: Array, heads: int) -> Array:
        b, t, _ = value.shape
        return value.reshape(b, t, heads, self._config.head_dim).transpose(0, 2, 1, 3)

    def _flat(self, value: Array) -> Array:
        b, heads, t, width = value.shape
        return value.transpose(0, 2, 1, 3).reshape(b, t, heads * width)

    def _turn(self, value: Array, sign: float) -> Array:
        """Rotate positions into (b, heads, t, d), or out again."""
        half, t = self._config.head_dim // 2, value.shape[2]
        one, two = value[..., :half], value[..., half:]
        cos, sin = self._cos[:t], self._sin[:t] * np.float32(sign)
        return np.concatenate([one * cos - two * sin, two * cos + one * sin], -1)

    def _grouped(self, value: Array) -> Array:
        """(b, heads, t, d) to (b, kv_heads, group * t, d)."""
        b, _, t, width = value.shape
        return value.reshape(b, self._config.kv_heads, -1, width) if t else value

    def _attend(self, weights: Mapping[str, Array], at: int, hidden: Array, tape: dict[str, Array]) -> Array:
        config, t = self._config, hidden.shape[1]
        x = _norm(hidden, weights[f"{at}.attention.norm"], config.epsilon)
        q = self._grouped(self._turn(self._heads(x @ weights[f"{at}.query"], config.heads), 1))
        k = self._turn(self._heads(x @ weights[f"{at}.key"], config.kv_heads), 1)
        v = self._heads(x @ weights[f"{at}.value"], config.kv_heads)
        scores = (q @ k.swapaxes(-1, -2)) * np.float32(config.head_dim**-0.5)
        b, groups = q.shape[:2]
        scores = scores.reshape(b, groups, -1, t, t)
        scores += self._mask[:t, :t]
        attention = _softmax(scores).reshape(b, groups, -1, t)
        mixed = self._flat((attention @ v).reshape(b, config.heads, t, config.head_dim))
        tape |= {"in": hidden, "x": x, "q": q, "k": k, "v": v, "attention": attention, "mixed": mixed}
        out: Array = hidden + mixed @ weights[f"{at}.out"]
        return out

    def _attend_back(
        self, weights: Mapping[str, Array], gradients: dict[str, Array], at: int, back: Array, tape: Mapping[str, Array]
    ) -> Array:
        config = self._config
        q, k, v, attention = tape["q"], tape["k"], tape["v"], tape["attention"]
        gradients[f"{at}.out"] = _outer(tape["mixed"], back)
        mixed = self._grouped(self._heads(back @ weights[f"{at}.out"].T, config.heads))
        value = attention.swapaxes(-1, -2) @ mixed
        scores = mixed @ v.swapaxes(-1, -2)
        scores -= (scores * attention).sum(-1, keepdims=True)
        scores *= attention
        scores *= np.float32(config.head_dim**-0.5)
        b, _, t, width = k.shape
        query = self._flat(self._turn((scores @ k).reshape(b, config.heads, t, width), -1))
        key = self._flat(self._turn(scores.swapaxes(-1, -2) @ q, -1))
        value = self._flat(value)
        x, total = tape["x"], np.zeros_like(tape["x"])
        for name, part in (("query", query), ("key", key), ("value", value)):
            gradients[f"{at}.{name}"] = _outer(x, part)
            total += part @ weights[f"{at}.{name}"].T
        through, gradients[f"{at}.attention.norm"] = _norm_back(
            total, tape["in"], weights[f"{at}.attention.norm"], config.epsilon
        )
        return back + through

    def _feed(self, weights: Mapping[str, Array], at: int, hidden: Array, tape: dict[str, Array]) -> Array:
        x = _norm(hidden, weights[f"{at}.ff.norm"], self._config.epsilon)
        gate, up = x @ weights[f"{at}.gate"], x @ weights[f"{at}.up"]
        sigmoid = 1 / (1 + np.exp(-gate))
        tape |= {"middle": hidden, "y": x, "gate": gate, "up": up, "sigmoid": sigmoid}
        out: Array = hidden + (gate * sigmoid * up) @ weights[f"{at}.down"]
        return out

    def _feed_back(
        self, weights: Mapping[str, Array], gradients: dict[str, Array], at: int, back: Array, tape: Mapping[str, Array]
    ) -> Array:
        gate, up, sigmoid, x = tape["gate"], tape["up"], tape["sigmoid"], tape["y"]
        swish = gate * sigmoid
        gradients[f"{at}.down"] = _outer(swish * up, back)
        inner = back @ weights[f"{at}.down"].T
        gate_back = inner * up * (sigmoid + swish * (1 - sigmoid))
        up_back = inner * swish
        gradients[f"{at}.gate"], gradients[f"{at}.up"] = _outer(x, gate_back), _outer(x, up_back)
        total = gate_back @ weights[f"{at}.gate"].T + up_back @ weights[f"{at}.up"].T
        through, gradients[f"{at}.ff.norm"] = _norm_back(
            total, tape["middle"], weights[f"{at}.ff.norm"], self._config.epsilon
        )
        return back + through


def _norm(value: Array, scale: Array, epsilon: float) -> Array:
    normed: Array = value * _inverse(value, epsilon) * scale
    return normed


def _inverse(value: Array, epsilon: float) -> Array:
    inverse: Array = 1 / np.sqrt((value**2).mean(-1, keepdims=True) + np.float32(epsilon))
    return inverse


def _norm_back(back: Array, value: Array, scale: Array, epsilon: float) -> tuple[Array, Array]:
    inverse = _inverse(value, epsilon)
    unit = value * inverse
    scaled = back * scale
    through = inverse * (scaled - unit * (scaled * unit).mean(-1, keepdims=True))
    return through, (back * unit).reshape(-1, value.shape[-1]).sum(0)


def _softmax(scores: Array) -> Array:
    scores = scores - scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    return scores


def _outer(left: Array, right: Array) -> Array:
    return left.reshape(-1, left.shape[-1]).T @ right.reshape(-1, right.shape[-1])
