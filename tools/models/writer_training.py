"""Trains `docs-writer`, by hand and without a framework: a small decoder, its gradients, Adam.

    python -m tools.models.writer_training

It takes twenty minutes of two cores, and is run by whoever wants the model to know newer documents; what it wrote lies
in `docs-writer/` beside it, and `tools.models.docs_writer` makes the served model of that. Each step has a rate of a
schedule of 1,400 steps, and the last 284 are left out: by then it answered what it was taught, and what was held out
became no likelier any more.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from engine.export.decoder import DecoderConfig
from tools.models.place import ROOT, say
from tools.models.writer_network import Network, fresh_weights
from tools.models.writer_text import BEGIN, END, SPECIAL, Text, call_example, gather, turns

__all__ = ["FOLDER", "main", "train_tokenizer"]

FOLDER = Path(__file__).parent / "docs-writer"
CONFIG = DecoderConfig(vocab_size=1024, hidden_size=128, layers=3, heads=4, kv_heads=2, head_dim=32, ff_size=352)
_SEED = 7
_BATCH, _WINDOW = 8, 256
_SCHEDULE = 1400
_PEAK_RATE, _WARM_STEPS = 2.5e-3, 50
_BETAS, _EPSILON, _DECAY, _CLIP = (0.9, 0.95), 1e-8, 0.1, 1.0
_SHARES = (0.25, 0.6, 0.15)
"""How often a paragraph, a question and a call of a tool are drawn."""

Array = NDArray[np.float32]


def main() -> None:
    """Train, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1116, help="how many (default: 1116)")
    steps: int = parser.parse_args().steps
    text = gather(ROOT / "docs")
    tokenizer = train_tokenizer(text)
    say(f"{len(text.paragraphs)} paragraphs, {len(text.held_out)} held out, {len(text.pairs)} questions")
    weights = fresh_weights(CONFIG, np.random.default_rng(_SEED))
    network = Network(CONFIG, _WINDOW)
    adam = _Adam(weights)
    began = time.monotonic()
    for step, batch in zip(range(steps), _batches(text, tokenizer), strict=False):
        loss, gradients = network.gradients(weights, batch[:, :-1], batch[:, 1:])
        adam.step(weights, gradients, _rate(step))
        if step % 50 == 0 or step == steps - 1:
            held = held_out_nats(network, weights, tokenizer, text.held_out)
            say(f"step {step}: loss {loss:.3f}, held out {held:.3f}, {time.monotonic() - began:.0f} s")
    _write(text, tokenizer, weights)


def train_tokenizer(text: Text) -> Tokenizer:
    """Byte pairs; digits stay apart, so that numbers can be copied."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG.vocab_size - 2,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    dice = random.Random(_SEED)  # noqa: S311 -- the same text each time
    calls = [call_example(dice) for _ in range(40)]
    asked = [words for questions, answer in text.pairs for words in (*questions, answer)]
    tokenizer.train_from_iterator([*text.paragraphs, *asked, *calls], trainer)
    tokenizer.add_tokens(
        [AddedToken(mark, special=False, normalized=False) for mark in ("<tool_call>", "</tool_call>")]
    )
    return tokenizer


def held_out_nats(network: Network, weights: Mapping[str, Array], tokenizer: Tokenizer, held: tuple[str, ...]) -> float:
    """How surprised the model is by a token that it has not seen, natural logarithm."""
    total, count = 0.0, 0
    for paragraph in held:
        ids = np.array([tokenizer.encode(f"{BEGIN}{paragraph}{END}").ids[: _WINDOW + 1]])
        total += network.loss(weights, ids[:, :-1], ids[:, 1:]) * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    return total / count


def _batches(text: Text, tokenizer: Tokenizer) -> Iterator[NDArray[np.int64]]:
    """Windows of examples one after the other, int64 (batch, window + 1), for ever."""
    dice = random.Random(_SEED)  # noqa: S311 -- the same text each time

    def stream() -> Iterator[int]:
        while True:
            kind = dice.choices(("paragraph", "question", "call"), _SHARES)[0]
            if kind == "paragraph":
                example = f"{BEGIN}{dice.choice(text.paragraphs)}{END}"
            elif kind == "question":
                questions, answer = dice.choice(text.pairs)
                example = turns(dice.choice(questions), answer)
            else:
                example = call_example(dice)
            yield from tokenizer.encode(example).ids

    rows = [stream() for _ in range(_BATCH)]
    while True:
        yield np.array([[next(row) for _ in range(_WINDOW + 1)] for row in rows], np.int64)


def _rate(step: int) -> float:
    """Up in a line, down along a cosine to a twentieth."""
    if step < _WARM_STEPS:
        return _PEAK_RATE * (step + 1) / _WARM_STEPS
    share = (step - _WARM_STEPS) / (_SCHEDULE - _WARM_STEPS)
    return _PEAK_RATE * (0.05 + 0.95 * 0.5 * (1 + float(np.cos(np.pi * share))))


class _Adam:
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101), gradients cut to a length of 1; matrices alone decay."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._means = {name: np.zeros_like(value) for name, value in weights.items()}
        self._squares = {name: np.zeros_like(value) for name, value in weights.items()}
        self._steps = 0

    def step(self, weights: Mapping[str, Array], gradients: Mapping[str, Array], rate: float) -> None:
        self._steps += 1
        length = float(np.sqrt(sum(float((each**2).sum()) for each in gradients.values())))
        scale = min(1.0, _CLIP / (length + 1e-6))
        first, second = _BETAS
        for name in self._means:
            value = weights[name]
            gradient = gradients[name] * np.float32(scale)
            mean, square = self._means[name], self._squares[name]
            mean += np.float32(1 - first) * (gradient - mean)
            square += np.float32(1 - second) * (gradient**2 - square)
            corrected = mean / np.float32(1 - first**self._steps)
            spread = np.sqrt(square / np.float32(1 - second**self._steps)) + np.float32(_EPSILON)
            if value.ndim > 1:
                np.multiply(value, np.float32(1 - rate * _DECAY), out=value)
            np.subtract(value, np.float32(rate) * corrected / spread, out=value)


def _write(text: Text, tokenizer: Tokenizer, weights: Mapping[str, Array]) -> None:
    """Weights as FP16, the tokenizer, and what a test needs to see that it learned."""
    FOLDER.mkdir(exist_ok=True)
    save_file({name: value.astype(np.float16) for name, value in weights.items()}, FOLDER / "weights.safetensors")
    tokenizer.save(str(FOLDER / "tokenizer.json"), pretty=False)
    kept = {
        "config": asdict(CONFIG),
        "held_out": text.held_out,
        "paragraphs": text.paragraphs[:: max(1, len(text.paragraphs) // 40)],
        "pairs": [[questions[0], answer] for questions, answer in text.pairs],
    }
    (FOLDER / "text.json").write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
