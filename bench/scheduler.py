"""The scheduler without a transport: what a request costs in it, two busy models, texts of mixed lengths.

What is compared is measured in turn, so that a machine whose speed changes does not favour one side.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure import quantile, write_results
from engine.manifest import EmbeddingManifest
from engine.runtime.budget import CoreBudget
from engine.runtime.sessions import SessionSettings, cores, open_session
from engine.scheduler.batcher import Batcher
from engine.scheduler.policy import BatchPolicy
from engine.scheduler.terms import Terms
from engine.servables import ModelContext
from engine.servables.token_graph import TokenGraph
from engine.servables.tokens import TokenRows

MODEL = Path(__file__).parents[1] / ".models" / "all-minilm-l6-v2" / "1" / "model.onnx"
POLICY = BatchPolicy(32, 20_000)
OWNERS = [Terms(owner) for owner in "abcdefgh"]
WAITING = (1, 32, 256, 10_000)


class Silent:
    """Hears about batches and says nothing."""

    def queue(self, *_heard) -> None:
        """Nothing."""

    def batch(self, *_heard) -> None:
        """Nothing."""

    def answered(self, *_heard) -> None:
        """Nothing."""


async def closed_loop(
    ask: Callable[[int], Awaitable[object]], clients: int, seconds: float
) -> tuple[float, list[float]]:
    """Requests per second of so many clients that ask again once they are answered, and the milliseconds of each."""
    took: list[float] = []
    ends = time.perf_counter() + seconds

    async def client(number: int) -> None:
        while (began := time.perf_counter()) < ends:
            await ask(number)
            took.append((time.perf_counter() - began) * 1e3)

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    return len(took) / (time.perf_counter() - began), took


async def overhead(waiting: int, seconds: float) -> tuple[float, float]:
    """Microseconds of processor and of the clock that a request costs whose run does nothing."""
    made = Batcher(lambda items: items, name="bench", policy=POLICY)
    used, began = time.process_time(), time.perf_counter()
    _, took = await closed_loop(lambda at: made.submit(at, rows=1, terms=OWNERS[at % 8]), waiting, seconds)
    used, lasted = time.process_time() - used, time.perf_counter() - began
    await asyncio.to_thread(made.close)
    return used / len(took) * 1e6, lasted / len(took) * 1e6


def rows_of(length: int, seed: int) -> TokenRows:
    """One row of ordinary words between the two special tokens."""
    ids = np.random.default_rng(seed).integers(1996, 29000, (1, length), dtype=np.int64)
    ids[:, 0], ids[:, -1] = 101, 102
    return TokenRows(ids, np.ones_like(ids))


class Encoder:
    """MiniLM, that counts the tokens it reads and the places it computes."""

    def __init__(self, budget: CoreBudget | None = None) -> None:
        self.places = self.tokens = 0
        manifest = EmbeddingManifest(name="bench")
        settings = SessionSettings(budget=budget)
        context = ModelContext(MODEL.parent, manifest, settings, POLICY, Silent())
        self.graph = TokenGraph(MODEL, context, self._read)

    def _read(self, output, mask):
        self.places += mask.size
        self.tokens += int(mask.sum())
        return output[:, 0]


async def two_models(budget: CoreBudget | None, seconds: float) -> tuple[float, float, float]:
    """Rows per second of two models with eight clients each, the p99 of them, and rows per processor second."""
    encoders = [Encoder(budget) for _ in range(2)]
    asked = [rows_of(32, seed) for seed in range(16)]
    loops = (closed_loop(lambda at, e=each: e.graph.run_rows(asked[at]), 8, seconds) for each in encoders)
    used = time.process_time()
    found = await asyncio.gather(*loops)
    used = time.process_time() - used
    for each in encoders:
        await asyncio.to_thread(each.graph.close)
    took = [ms for _, each in found for ms in each]
    return sum(rate for rate, _ in found), quantile(took, 0.99), len(took) / used


def mixed(seed: int, count: int) -> list[TokenRows]:
    """Texts of 8 to 128 tokens, short ones more often."""
    lengths = np.exp(np.random.default_rng(seed).uniform(np.log(8), np.log(129), count)).astype(int)
    return [rows_of(int(length), at) for at, length in enumerate(lengths)]


def limit_of(asked: list[TokenRows], seconds: float) -> float:
    """Tokens per second in process: the same texts, sorted, in the best batches that they make without waiting."""
    session = open_session(MODEL, SessionSettings())
    ordered, best = sorted(asked, key=lambda rows: rows.ids.shape[1]), 0.0
    for size in (4, 8, 16):
        batches = [ordered[at : at + size] for at in range(0, len(ordered), size)]
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds / 3:
            for batch in batches:
                width = batch[-1].ids.shape[1]
                ids = np.stack([np.pad(rows.ids[0], (0, width - rows.ids.shape[1])) for rows in batch])
                mask = np.stack([np.pad(rows.mask[0], (0, width - rows.ids.shape[1])) for rows in batch])
                session.run({"input_ids": ids, "attention_mask": mask})
                done += int(mask.sum())
        best = max(best, done / (time.perf_counter() - began))
    session.close()
    return best


async def mixed_lengths(asked: list[TokenRows], clients: int, seconds: float) -> tuple[float, float, float]:
    """Tokens per second, the share of the computed places that are tokens, and the p99."""
    encoder, turn = Encoder(), iter(range(1 << 60))
    _, took = await closed_loop(lambda _: encoder.graph.run_rows(asked[next(turn) % len(asked)]), clients, seconds)
    await asyncio.to_thread(encoder.graph.close)
    return encoder.tokens / seconds, encoder.tokens / encoder.places, quantile(took, 0.99)


def main() -> None:
    """Measure several rounds in turn and keep the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="how long each figure is measured")
    options = parser.parse_args()
    seconds, asked = options.seconds, mixed(7, 256)
    costs, pairs, lengths = {count: [] for count in WAITING}, {True: [], False: []}, []
    for _ in range(options.rounds):
        for waiting in WAITING:
            costs[waiting].append(asyncio.run(overhead(waiting, seconds / 4)))
        for shared in (True, False):
            pairs[shared].append(asyncio.run(two_models(CoreBudget(cores()) if shared else None, seconds)))
        limit = limit_of(asked, seconds)
        lengths.append((*asyncio.run(mixed_lengths(asked, 32, seconds)), limit))
    rows: list[dict[str, object]] = []
    for waiting, found in costs.items():
        cpu, clock = (statistics.median(column) for column in zip(*found, strict=True))
        rows.append({"row": f"a request, {waiting} at once", "cpu_us": cpu, "clock_us": clock})
    for shared, found in pairs.items():
        rate, p99, efficiency = (statistics.median(column) for column in zip(*found, strict=True))
        row = {"row": f"two models, budget {'on' if shared else 'off'}", "items_s": rate, "p99_ms": p99}
        rows.append({**row, "items_cpu_s": efficiency})
    rate, share, p99, limit = (statistics.median(column) for column in zip(*lengths, strict=True))
    rows.append({"row": "8-128 tokens, 32 clients", "tokens_s": rate, "p99_ms": p99})
    rows.append({"row": "8-128 tokens, in process", "tokens_s": limit})
    ratios = {
        "two models: items/s with the budget / without": statistics.median(
            on[0] / off[0] for on, off in zip(pairs[True], pairs[False], strict=True)
        ),
        "two models: p99 with the budget / without": statistics.median(
            on[1] / off[1] for on, off in zip(pairs[True], pairs[False], strict=True)
        ),
        "two models: items per processor second with the budget / without": statistics.median(
            on[2] / off[2] for on, off in zip(pairs[True], pairs[False], strict=True)
        ),
        "mixed lengths: tokens/s / in process, sorted": statistics.median(each[0] / each[3] for each in lengths),
        "mixed lengths: tokens / places computed": share,
    }
    write_results("scheduler", rows, ratios)


if __name__ == "__main__":
    main()
