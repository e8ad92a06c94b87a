"""A decoder that goes on with texts: `text_input` BYTES [n] to `text_output` BYTES [n], or piece by piece.

How its tokens are computed is `engine.generation`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.errors import ElementError, NoLabelsError, PromptError, SamplingError, TensorError
from engine.generation.answer import Answer
from engine.generation.assets import read_assets
from engine.generation.base import Piece, Prompt, Sampling
from engine.generation.decoder import Decoder, pads_alike
from engine.generation.device_cache import DeviceCaches
from engine.generation.figures import GenerationFigures
from engine.generation.form import read_form
from engine.generation.loop import GenerationLoop, LoopLimits
from engine.generation.outbox import Outbox
from engine.generation.prompts import Prompts, Renderer, check_sampling
from engine.generation.sequence import SequenceState
from engine.manifest import GenerationManifest
from engine.repository.folders import graph_file
from engine.runtime.devices import read_device
from engine.runtime.sessions import SessionSettings, open_session, release_memory
from engine.scheduler.policy import BatchPolicy
from engine.scheduler.terms import PLAIN, Terms
from engine.servables.base import Classified, Inference, Items, Tensors, check_tensors
from engine.servables.closing import closed_on_failure
from engine.tensor import TensorSpec, texts_tensor

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
    inputs = (TensorSpec("text_input", "BYTES", (-1,)),)
    outputs = (TensorSpec("text_output", "BYTES", (-1,)),)
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
            self._device = DeviceCaches(form, settings) if read_device(settings.device).is_gpu else None
            decoder = Decoder(self._session, form, device=self._device)
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
                manifest.prefix_mb * (1 << 20) // form.token_bytes,
            ),
            ends=self._assets.ends,
            observer=figures,
        )
        figures.watch(self._loop)

    @property
    def policy(self) -> BatchPolicy | None:
        """None: answers are put together token by token, and not by rows of a request."""
        return None

    @property
    def context(self) -> int:
        """How many tokens prompt and answer may have together."""
        return self._assets.context

    @property
    def waiting(self) -> int:
        """How many answers wait for their turn."""
        return self._loop.waiting

    async def try_template(self, owner: str) -> None:
        """See that its chat template makes a text of a conversation.

        Raises:
            EngineError: it does not; the message has its file and line.
        """
        await self._prompts.try_template(owner)

    async def generate(self, prompt: Prompt, sampling: Sampling, terms: Terms = PLAIN) -> AsyncGenerator[Piece]:
        """The answer, piece by piece; see `engine.generation.base.Generator`."""
        async with aclosing(self.answer(await self.prepare(prompt, sampling, terms))) as pieces:
            async for piece in pieces:
                yield piece

    async def answer(self, sequence: SequenceState) -> AsyncGenerator[Piece]:
        """The answer of what was prepared, once."""
        outbox = sequence.outbox
        self._loop.submit(sequence)
        try:
            while not sequence.answer.over:
                piece = sequence.answer.push(*await outbox.take())
                if piece is not None:
                    yield piece
            self._figures.ended(sequence.made, outbox.last_at - outbox.first_at)
        finally:
            self._loop.cancel(sequence)

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """How the texts go on, with the model's own sampling.

        Raises:
            ElementError: naming the text that is none.
        """
        check_tensors(self.inputs, tensors)
        answers = await self.write(self.texts_of(tensors), Sampling(max_tokens=self._manifest.max_tokens), terms)
        texts = texts_tensor([each.text for each in answers])
        return Inference({"text_output": texts}, len(answers), sum(each.prompt_tokens for each in answers))

    @staticmethod
    def texts_of(tensors: Tensors) -> list[str]:
        """The texts of inputs that were checked.

        Raises:
            ElementError: naming the one that is none.
        """
        values = tensors["text_input"]
        if len(values) > _MAX_TEXTS:
            raise TensorError("text_input", f"holds {len(values)} texts; at most {_MAX_TEXTS} are taken at once")
        texts = []
        for at, value in enumerate(values):
            try:
                texts.append(value.decode())
            except UnicodeDecodeError:
                raise ElementError("text_input", at, "holds bytes that are not UTF-8") from None
        return texts

    async def write(self, texts: Sequence[str], sampling: Sampling, terms: Terms = PLAIN) -> list[Piece]:
        """How the texts go on, each whole.

        Raises:
            ElementError: naming the text that the model cannot go on from.
            SamplingError: the sampling cannot be.
        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._whole(at, text, sampling, terms)) for at, text in enumerate(texts)]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:  # noqa: ARG002 -- the port's
        """Never: it writes texts."""
        raise NoLabelsError("the model writes texts and gives no labels; ask it to generate")

    def close(self) -> None:
        """Give its memory back, after what it was asked is answered."""
        self._loop.close()
        self._figures.forget()
        self._session.close()
        if self._device is not None:
            self._device.close()
        release_memory()

    async def _whole(self, at: int, text: str, sampling: Sampling, terms: Terms) -> Piece:
        parts, last = [], Piece("")
        try:
            async for last in self.generate(Prompt(text), sampling, terms):
                parts.append(last.text)
        except SamplingError:
            raise
        except PromptError as error:
            raise ElementError("text_input", at, error.said) from None
        return replace(last, text="".join(parts))

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
            stops=(*self._manifest.stop, *sampling.stop),
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
