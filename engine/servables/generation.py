"""A decoder that goes on with texts: `text` BYTES [n] to `text` BYTES [n], or piece by piece.

How its tokens are computed is `engine.generation`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import ElementError, NoLabelsError, TensorError
from engine.generation.answer import Answer
from engine.generation.assets import read_assets
from engine.generation.base import Piece, Prompt, Sampling
from engine.generation.decoder import Decoder, pads_alike
from engine.generation.figures import GenerationFigures
from engine.generation.form import read_form
from engine.generation.loop import GenerationLoop, LoopLimits
from engine.generation.outbox import Outbox
from engine.generation.prompts import Prompts, Renderer, check_sampling
from engine.generation.sequence import SequenceState
from engine.manifest import GenerationManifest
from engine.repository.folders import graph_file
from engine.runtime.sessions import SessionSettings, open_session, release_memory
from engine.scheduler.policy import BatchPolicy
from engine.scheduler.terms import PLAIN, Terms
from engine.servables.base import Classified, Inference, Items, Tensors, check_tensors
from engine.servables.closing import closed_on_failure
from engine.tensor import TensorSpec

__all__ = ["TextGenerator"]

_MAX_TEXTS = 64


class TextGenerator:
    """A decoder in memory.

    Args:
        folder: where its files are.
        manifest: what it says.
        settings: how its session is opened.
        limits: how much it takes on.
        figures: hears how it goes.
        renderer: renders its chat template.

    Raises:
        EngineError: the files make no such model.
    """

    platform = "onnxruntime"
    inputs = (TensorSpec("text", "BYTES", (-1,)),)
    outputs = (TensorSpec("text", "BYTES", (-1,)),)
    classifies: Items | None = None

    def __init__(
        self,
        folder: Path,
        manifest: GenerationManifest,
        settings: SessionSettings,
        limits: BatchPolicy,
        figures: GenerationFigures,
        renderer: Renderer,
    ) -> None:
        path, said_file = graph_file(folder, manifest.file)
        self._assets = read_assets(folder, manifest)
        self._session = open_session(path, settings)
        with closed_on_failure(self._session):
            form = read_form(
                path.name,
                self._session.inputs,
                self._session.outputs,
                kv_heads=manifest.kv_heads,
                head_dim=manifest.head_dim,
            )
            decoder = Decoder(self._session, form, keep=settings.device != "cpu")
            together = manifest.max_running != 1 and pads_alike(decoder, path.name)
        said_rows = () if together or manifest.max_running == 1 else ("max_running: 1",)
        self.inferred = (*said_file, *self._assets.inferred, *said_rows)
        self._manifest = manifest
        self._figures = figures
        self._prompts = Prompts(self._assets, manifest.tool_calls, form.vocabulary, renderer)
        self._loop = GenerationLoop(
            decoder,
            name=manifest.name,
            limits=LoopLimits(
                manifest.max_running if together else 1,
                manifest.max_queue or limits.max_waiting,
                max(self._assets.context, manifest.cache_mb * (1 << 20) // form.token_bytes),
                manifest.prefill_tokens,
            ),
            observer=figures,
        )
        figures.watch(self._loop)

    @property
    def context(self) -> int:
        """How many tokens prompt and answer may have together."""
        return self._assets.context

    @property
    def waiting(self) -> int:
        """How many answers wait for their turn."""
        return self._loop.waiting

    async def generate(self, prompt: Prompt, sampling: Sampling, terms: Terms = PLAIN) -> AsyncIterator[Piece]:
        """The answer, piece by piece; see `engine.generation.base.Generator`."""
        async with aclosing(self.answer(await self.prepare(prompt, sampling, terms))) as pieces:
            async for piece in pieces:
                yield piece

    async def answer(self, sequence: SequenceState) -> AsyncGenerator[Piece]:
        """The answer of what was prepared, once."""
        self._loop.submit(sequence)
        try:
            while True:
                piece = await sequence.outbox.take()
                yield piece
                if piece.finish is not None:
                    return
        finally:
            self._loop.cancel(sequence)

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """How the texts go on, with the model's own sampling.

        Raises:
            ElementError: naming the text that is none.
        """
        check_tensors(self.inputs, tensors)
        if len(tensors["text"]) > _MAX_TEXTS:
            raise TensorError("text", f"holds {len(tensors['text'])} texts; at most {_MAX_TEXTS} are taken at once")
        texts = []
        for at, value in enumerate(tensors["text"]):
            try:
                texts.append(value.decode())
            except UnicodeDecodeError:
                raise ElementError("text", at, "holds bytes that are not UTF-8") from None
        sampling = Sampling(max_tokens=self._manifest.max_tokens)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._whole(Prompt(text), sampling, terms)) for text in texts]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        answers = [task.result() for task in tasks]
        out = np.empty(len(answers), object)
        out[:] = [text.encode() for text, _ in answers]
        return Inference({"text": out}, len(answers), sum(read for _, read in answers))

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:  # noqa: ARG002 -- the port's
        """Never: it writes texts."""
        raise NoLabelsError("the model writes texts and gives no labels; ask it to generate")

    def close(self) -> None:
        """Give its memory back, after what it was asked is answered."""
        self._loop.close()
        self._figures.forget()
        self._session.close()
        release_memory()

    async def _whole(self, prompt: Prompt, sampling: Sampling, terms: Terms) -> tuple[str, int]:
        """A whole answer, and how many tokens were read for it."""
        parts, read = [], 0
        async for piece in self.generate(prompt, sampling, terms):
            parts.append(piece.text)
            read = piece.prompt_tokens
        return "".join(parts), read

    async def prepare(self, prompt: Prompt, sampling: Sampling, terms: Terms = PLAIN) -> SequenceState:
        """What `answer` computes; nothing is computed yet.

        Raises:
            EngineError: the prompt or the sampling cannot be.
        """
        since = time.perf_counter()
        check_sampling(sampling)
        tokens = await self._prompts.tokens(prompt, terms.owner)
        constraint = await self._prompts.constraint(prompt, sampling)
        room = self.context - len(tokens)
        longest = min(sampling.max_tokens or room, room)
        answer = Answer(
            self._assets.tokenizer,
            ends=frozenset(self._assets.ends),
            stops=(*self._manifest.stop, *sampling.stop),
            max_tokens=longest,
            prompt_tokens=len(tokens),
            calls=self._prompts.calls(prompt),
        )
        return SequenceState(
            prompt=tokens,
            reserved=len(tokens) + longest,
            chances=self._prompts.chances(sampling),
            top_logprobs=sampling.top_logprobs,
            constraint=constraint,
            answer=answer,
            outbox=Outbox(asyncio.get_running_loop()),
            terms=replace(terms, timeout_s=terms.timeout_s or self._manifest.timeout_ms / 1000),
            since=since,
        )
