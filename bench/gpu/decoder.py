"""docs-writer on a device: tokens a second of the bare loop and of the engine's classes, as in `bench.generation`."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from bench.generation import FOLDER, PROMPT_TEXT, Loop, engine_round, even_manifest
from engine.generation.figures import GenerationMetrics
from engine.runtime.sessions import SessionSettings
from engine.scheduler.policy import BatchPolicy
from engine.servables import TextGenerator
from mesh.sandbox import SandboxPool

__all__ = ["STREAMS", "decoder_rounds"]

STREAMS = 32


async def decoder_rounds(device: str, rounds: int) -> list[tuple[float, float]]:
    """Tokens a second of the loop and of the engine, a pair a round; the first round warms up."""
    settings, pool = SessionSettings(device), SandboxPool()
    figures = GenerationMetrics(CollectorRegistry()).of("docs-writer", 1)
    model = TextGenerator(FOLDER, even_manifest(), settings, BatchPolicy(STREAMS, 1024), figures, pool)
    loop = Loop(settings)
    found = []
    try:
        for _ in range(rounds + 1):
            alone = await asyncio.to_thread(loop.tokens_a_second, STREAMS)
            ours, _, _ = await engine_round(model, PROMPT_TEXT, STREAMS)
            found.append((alone, ours))
        return found[1:]
    finally:
        await asyncio.to_thread(model.close)
        await pool.close()
