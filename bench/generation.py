"""docs-writer: tokens a second of the engine by 1, 8 and 32 streams, beside a bare loop on the same graph.

The loop is the limit: it reads the same tokens, all rows begin and end together, the most probable token is taken,
nothing is made text of. A machine's speed changes from one minute to the next, so each figure stands beside what the
loop reached just before it. The engine runs as it does in its service, on uvloop.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvloop
from prometheus_client import CollectorRegistry
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure import quantile, write_results
from engine.generation.base import Prompt, Sampling
from engine.generation.figures import GenerationMetrics
from engine.generation.form import read_form
from engine.manifest import GenerationManifest, parse_manifest
from engine.runtime.sessions import SessionSettings, open_session
from engine.scheduler.policy import BatchPolicy
from engine.servables import TextGenerator
from mesh.host import SWITCH_S
from mesh.sandbox import SandboxPool

FOLDER = Path(__file__).parents[1] / ".models" / "docs-writer" / "1"
STREAMS = (1, 8, 32)
LENGTH = 96
"""Tokens that are made."""
PROMPT_TEXT = "An agent's flow is a document of the workflow language, in YAML."
SHARED = "A flow has steps, and each step is a call of a tool, of a model or of another flow. " * 20
"""About 500 tokens."""


def even_manifest() -> GenerationManifest:
    """What is said of docs-writer, but that no text ends before the others."""
    text = (FOLDER / "model.yaml").read_text().replace("eos: [<|end|>]", "eos: [<|tool|>]")
    manifest = parse_manifest(text.encode(), model="docs-writer")
    assert isinstance(manifest, GenerationManifest)
    return manifest


class Loop:
    """The bare loop; on a GPU its keys and values stay there, as the engine's do."""

    def __init__(self, settings: SessionSettings | None = None) -> None:
        self.session = open_session(FOLDER / "model.onnx", settings or SessionSettings())
        self.stays = self.session.device != "cpu"
        self.form = read_form("model.onnx", self.session.inputs, self.session.outputs)
        self.prompt = Tokenizer.from_file(str(FOLDER / "tokenizer.json")).encode(PROMPT_TEXT).ids

    def tokens_a_second(self, rows: int) -> float:
        """Of one round with so many rows."""
        form = self.form
        ids = np.tile(np.array(self.prompt, np.int64), (rows, 1))
        cache: list[Any] = [np.zeros((rows, each.heads, 0, each.width), np.float32) for each in form.cache]
        names = [form.logits, *(each.present for each in form.cache)]
        run = partial(self.session.run_keeping, keep=frozenset(names[1:])) if self.stays else self.session.run
        began = time.perf_counter()
        for step in range(LENGTH):
            total = len(self.prompt) + step
            feeds = {
                form.ids: ids,
                form.mask: np.ones((rows, total), np.int64),
                form.positions: np.tile(np.arange(total - ids.shape[1], total), (rows, 1)),
                **{each.past: value for each, value in zip(form.cache, cache, strict=True)},
            }
            found = run(feeds, names)
            cache = [found[each.present] for each in form.cache]
            ids = found[form.logits][:, -1:].argmax(axis=2)
        return rows * LENGTH / (time.perf_counter() - began)


async def engine_round(model: TextGenerator, prompt: str, streams: int) -> tuple[float, list[float], list[float]]:
    """Tokens a second, times to the first token and between pieces, seconds."""
    first: list[float] = []
    gaps: list[float] = []
    made = 0

    async def one() -> None:
        nonlocal made
        began = last = time.perf_counter()
        async for piece in model.generate(Prompt(prompt), Sampling(max_tokens=LENGTH, temperature=0)):
            now = time.perf_counter()
            (first if last == began else gaps).append(now - last)
            last = now
            if piece.finish:
                made += piece.completion_tokens

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(streams)))
    return made / (time.perf_counter() - began), first, gaps


async def first_token(model: TextGenerator, rounds: int) -> list[float]:
    """Seconds until the first token of prompts that have all but their last words in common, one after the other."""
    found = []
    for at in range(rounds + 1):
        began = time.perf_counter()
        async for _ in model.generate(Prompt(f"{SHARED} {at}: what is a flow?"), Sampling(max_tokens=1, temperature=0)):
            pass
        found.append(time.perf_counter() - began)
    return found[1:]  # the first one finds nothing that it could begin with


async def measured(rounds: int) -> None:
    """Measure in turn, and write the medians."""
    manifest = even_manifest()
    figures = GenerationMetrics(CollectorRegistry()).of("docs-writer", 1)
    pool = SandboxPool()

    def opened(manifest: GenerationManifest) -> TextGenerator:
        return TextGenerator(FOLDER, manifest, SessionSettings(), BatchPolicy(32, 1024), figures, pool)

    model, forgetful = opened(manifest), opened(msgspec.structs.replace(manifest, prefix_mb=0))
    loop = Loop()
    limits: dict[int, list[float]] = {streams: [] for streams in STREAMS}
    found: dict[int, list[tuple[float, list[float], list[float]]]] = {streams: [] for streams in STREAMS}
    firsts: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(rounds):
        for streams in STREAMS:
            limits[streams].append(await asyncio.to_thread(loop.tokens_a_second, streams))
            found[streams].append(await engine_round(model, PROMPT_TEXT, streams))
        firsts["without"] += await first_token(forgetful, 5)
        firsts["with"] += await first_token(model, 5)
    for each in (model, forgetful):
        await asyncio.to_thread(each.close)
    await pool.close()
    rows: list[dict[str, object]] = []
    ratios = {}
    for streams in STREAMS:
        limit = statistics.median(limits[streams])
        rows.append({"row": "bare loop", "streams": streams, "tokens_s": limit})
        rows.append(engine_row(streams, found[streams]))
        ratios[f"{streams} streams / bare loop"] = statistics.median(
            rate / limit for (rate, _, _), limit in zip(found[streams], limits[streams], strict=True)
        )
    for name, values in firsts.items():
        rows.append({"row": f"{name} the last prompts", "streams": 1, "first_p50_ms": statistics.median(values) * 1000})
    ratios["first token of a prompt of 500 tokens, with / without the last prompts"] = statistics.median(
        firsts["with"]
    ) / statistics.median(firsts["without"])
    write_results("generation", rows, ratios)


def engine_row(streams: int, found: Sequence[tuple[float, list[float], list[float]]]) -> dict[str, object]:
    """What the engine reached in these rounds."""
    first = [value for _, values, _ in found for value in values]
    gaps = [value for _, _, values in found for value in values]
    return {
        "row": "engine",
        "streams": streams,
        "tokens_s": statistics.median(rate for rate, _, _ in found),
        "first_p50_ms": quantile(first, 0.5) * 1000,
        "gap_p50_ms": quantile(gaps, 0.5) * 1000,
        "gap_p99_ms": quantile(gaps, 0.99) * 1000,
    }


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    sys.setswitchinterval(SWITCH_S)
    uvloop.run(measured(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
