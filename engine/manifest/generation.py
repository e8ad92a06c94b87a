"""Manifests of models that write texts."""

from __future__ import annotations

from typing import Annotated

import msgspec

from engine.errors import ManifestError
from engine.manifest.fields import Common, FileName, Label

__all__ = ["DefaultSampling", "GenerationManifest"]


class DefaultSampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How tokens are chosen where a caller does not say.

    Attributes:
        temperature: 0 takes the most probable one.
        top_p: only the most probable ones that come to this share together.
        top_k: only so many of the most probable ones; 0 means all.
    """

    temperature: Annotated[float, msgspec.Meta(ge=0, le=5)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None


class GenerationManifest(Common, frozen=True, tag="text-generation"):
    """A decoder that goes on with texts: `text_input` BYTES [n] in, `text_output` BYTES [n] out, or piece by piece.

    What is left out is read from the graph and from the files that Hugging Face's exports have beside it.

    Attributes:
        file: the ONNX file; without it the only one there is.
        tokenizer: the tokenizer, in the format of Hugging Face's `tokenizers`.
        context: how many tokens prompt and answer may have together; without it as `config.json` says.
        chat_template: a file with a Jinja template, or the template itself; without it `chat_template.jinja`, or the
            one in `tokenizer_config.json`.
        bos: the token that begins a text, for the template; without it as `tokenizer_config.json` says.
        eos: the tokens that end an answer; without it as `generation_config.json` or `tokenizer_config.json` says.
        stop: texts that end every answer.
        sampling: how tokens are chosen where a caller does not say; without it as `generation_config.json` says.
        max_tokens: the most tokens of an answer over the Open Inference Protocol, where a caller says none.
        tool_calls: what begins and ends a call of a tool in the model's text.
        max_running: the most answers under way at once. 1 where rows of different lengths cannot share a step, which
            is tried at load.
        max_queue: how many may wait; without it as the engine's settings say.
        timeout_ms: how long one may wait where its caller does not say; 0 for as long as it takes.
        cache_mb: the most memory for keys and values, MiB.
        prefill_tokens: the most tokens of prompts that are read between two steps.
        prefix_mb: the most memory for keys and values of earlier prompts, MiB, for those of the same tenant that begin
            alike; 0 keeps none.
        kv_heads: heads of keys and values, where the graph leaves that open.
        head_dim: numbers of a head, as above.
    """

    file: FileName | None = None
    tokenizer: FileName = "tokenizer.json"
    context: Annotated[int, msgspec.Meta(ge=2, le=1 << 20)] | None = None
    chat_template: Annotated[str, msgspec.Meta(min_length=1, max_length=65536)] | None = None
    bos: Annotated[str, msgspec.Meta(max_length=256)] = ""
    eos: Annotated[tuple[Label, ...], msgspec.Meta(max_length=64)] = ()
    stop: Annotated[tuple[Label, ...], msgspec.Meta(max_length=16)] = ()
    sampling: DefaultSampling = DefaultSampling()
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 256
    tool_calls: tuple[Label, Label] = ("<tool_call>", "</tool_call>")
    max_running: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32
    max_queue: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    timeout_ms: Annotated[float, msgspec.Meta(ge=0, le=86_400_000)] = 0.0
    cache_mb: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 1024
    prefill_tokens: Annotated[int, msgspec.Meta(ge=16, le=1 << 16)] = 512
    prefix_mb: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] = 64
    kv_heads: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0
    head_dim: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0

    def check(self) -> None:
        """Texts that are drawn are not kept.

        Raises:
            ManifestError: they shall be.
        """
        super().check()
        if self.response_cache:
            raise ManifestError("response_cache: a text may be another one each time; remove the line")
