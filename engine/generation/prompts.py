"""From what a caller asks to the tokens that the model goes on from, and what the answer may be.

Templates are rendered in the sandbox: they are a tenant's own code.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np

from engine.errors import ManifestError, ModelFileError, PromptError, SamplingError
from engine.generation.assets import TextAssets
from engine.generation.base import Message, Prompt, Sampling, Tool
from engine.generation.constraint import Constraint, Constraints
from engine.generation.sampling import Chances
from engine.generation.tools import CallReader, call_grammar, check_tools, marked_calls
from engine.scheduler.aside import aside
from mesh.sandbox import (
    SandboxCrashedError,
    SandboxError,
    SandboxMemoryError,
    SandboxOutputTooLargeError,
    TemplateInvalidError,
)

__all__ = ["Prompts", "Renderer", "check_sampling"]

_MAX_CHARACTERS_A_TOKEN = 64
"""A text with more characters for each token of the context is not even made tokens of."""
_MAX_STOPS, _MAX_STOP_BYTES = 16, 1024
_MAX_TOP_LOGPROBS = 20
_TRIED = (("user",), ("system", "user"), ("user", "assistant", "user"))
"""Conversations of these roles; a template may want a word of the system first, or none."""
_FAULTS = (SandboxCrashedError, SandboxMemoryError, SandboxOutputTooLargeError, TemplateInvalidError)


class Renderer(Protocol):
    """Renders templates where they can do no harm."""

    async def render(self, template: str, variables: Mapping[str, Any], *, owner: str = "") -> str:
        """The text of a template."""


class Prompts:
    """Makes prompts for one model.

    Args:
        assets: its tokenizer and template.
        marks: what begins and ends a call of a tool.
        vocabulary: how many tokens the model gives logits of.
        renderer: renders templates.
    """

    def __init__(self, assets: TextAssets, marks: tuple[str, str], vocabulary: int, renderer: Renderer) -> None:
        self._assets = assets
        self._marks = marks
        self._vocabulary = vocabulary
        self._renderer = renderer
        self._constraints: Constraints | None = None

    async def tokens(self, prompt: Prompt, owner: str) -> list[int]:
        """The tokens of a prompt.

        Raises:
            PromptError: it is empty, longer than the context, or its template refuses it.
            TiationError: the template failed.
        """
        if (prompt.text is None) == (not prompt.messages):
            raise PromptError("prompt", "must hold either a text or messages")
        check_tools(prompt)
        if prompt.text is not None:
            if prompt.tools:
                raise PromptError("tools", "go with messages, not with a text")
            text, special = prompt.text, True
        else:
            text, special = await self._rendered(prompt, owner), False
        limit = self._assets.context * _MAX_CHARACTERS_A_TOKEN
        if len(text) > limit:
            raise PromptError(
                "prompt", f"has {len(text)} characters; a context of {self._assets.context} tokens is shorter"
            )
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise PromptError("prompt", "holds half of a character (a lone surrogate), which is no text")
        encoded = await aside(32 + len(text), partial(self._assets.tokenizer.encode, add_special_tokens=special), text)
        ids = list(encoded.ids)
        begin = self._assets.tokenizer.token_to_id(self._assets.begin)
        if not ids and begin is not None:
            ids = [begin]
        if not ids:
            raise PromptError("prompt", "is empty")
        if len(ids) >= self._assets.context:
            raise PromptError(
                "prompt",
                f"has {len(ids)} tokens; prompt and answer have {self._assets.context} together, make it shorter",
            )
        if max(ids) >= self._vocabulary:
            raise PromptError("prompt", f"holds the token {max(ids)}, and the model knows {self._vocabulary}")
        return ids

    async def try_template(self, owner: str) -> None:
        """See that the chat template makes a text of a plain conversation.

        One that the sandbox has no time for now is taken as it is: that says nothing of the template.

        Raises:
            ManifestError, ModelFileError: it makes none, of several that were tried.
        """
        if not self._assets.template:
            return
        said = ""
        for roles in _TRIED:
            try:
                await self._rendered(Prompt(messages=tuple(Message(role, "a few words") for role in roles)), owner)
            except _FAULTS as error:
                said = said or error.message
            except SandboxError:
                return
            else:
                return
        file = self._assets.template_file
        fault = f"the chat template makes no text of a plain conversation: {said}"
        raise ModelFileError(f"{file}: {fault}", file=file) if file else ManifestError(f"chat_template: {fault}")

    async def constraint(self, prompt: Prompt, sampling: Sampling) -> Constraint | None:
        """What the answer may be; None where it is free.

        Raises:
            SamplingError: the schema cannot be used.
        """
        grammar = call_grammar(prompt, self._marks, self._is_token)
        if grammar is None and sampling.json_schema is None:
            return None
        if grammar is not None and sampling.json_schema is not None:
            raise SamplingError("json_schema", "cannot go together with a call of a tool that must be made")
        return await aside(1 << 20, self._constrained, grammar, sampling)

    def calls(self, prompt: Prompt) -> CallReader | None:
        """What finds calls of tools in the answer; None where none are offered."""
        if not prompt.tools or prompt.tool_choice == "none":
            return None
        names = [tool.name for tool in prompt.tools if prompt.tool_choice in ("auto", "required", tool.name)]
        return CallReader(self._marks, names, lambda: f"call_{secrets.token_hex(12)}")

    def chances(self, sampling: Sampling) -> Chances:
        """How the answer's tokens are chosen."""
        assets = self._assets
        penalised = sampling.frequency_penalty != 0 or sampling.presence_penalty != 0
        return Chances(
            assets.temperature if sampling.temperature is None else sampling.temperature,
            assets.top_p if sampling.top_p is None else sampling.top_p,
            min(assets.top_k if sampling.top_k is None else sampling.top_k, self._vocabulary),
            sampling.frequency_penalty,
            sampling.presence_penalty,
            np.random.Generator(
                np.random.PCG64(secrets.randbits(64) if sampling.seed is None else sampling.seed % 2**64)
            ),
            np.zeros(self._vocabulary, np.float32) if penalised else None,
        )

    def _constrained(self, grammar: str | None, sampling: Sampling) -> Constraint:
        if self._constraints is None:
            self._constraints = Constraints(self._assets.tokenizer, self._vocabulary, self._assets.ends)
        if grammar is not None:
            return self._constraints.grammar(grammar, "tools")
        return self._constraints.json(sampling.json_schema or {})

    def _is_token(self, text: str) -> bool:
        return self._assets.tokenizer.token_to_id(text) is not None

    async def _rendered(self, prompt: Prompt, owner: str) -> str:
        if not self._assets.template:
            raise PromptError(
                "messages",
                "the model has no chat template; add the line `chat_template: …` to its model.yaml, or send a text",
            )
        offered = () if prompt.tool_choice == "none" else prompt.tools
        variables: dict[str, Any] = {
            "messages": [_message(each) for each in prompt.messages],
            "add_generation_prompt": True,
            "bos_token": self._assets.begin,
            "eos_token": self._assets.end,
        }
        if offered:
            variables["tools"] = [_tool(each) for each in offered]
        return await self._renderer.render(self._assets.template, variables, owner=owner)


def check_sampling(sampling: Sampling) -> None:
    """See that every wish is in its range.

    Raises:
        SamplingError: naming the one that is not.
    """
    ranges = (
        ("temperature", sampling.temperature, 0, 5, "from 0 to 5"),
        ("top_p", sampling.top_p, 1e-6, 1, "above 0 and at most 1"),
        ("top_k", sampling.top_k, 0, 1 << 20, "at least 0"),
        ("max_tokens", sampling.max_tokens, 0, 1 << 30, "at least 0"),
        ("frequency_penalty", sampling.frequency_penalty, -2, 2, "from -2 to 2"),
        ("presence_penalty", sampling.presence_penalty, -2, 2, "from -2 to 2"),
        ("top_logprobs", sampling.top_logprobs, 0, _MAX_TOP_LOGPROBS, f"from 0 to {_MAX_TOP_LOGPROBS}"),
    )
    for field, value, least, most, said in ranges:
        if value is not None and not least <= value <= most:  # also where it is no number
            raise SamplingError(field, f"must be {said}, and is {value}")
    if len(sampling.stop) > _MAX_STOPS:
        raise SamplingError("stop", f"holds {len(sampling.stop)} texts; at most {_MAX_STOPS} are taken")
    if any(not 1 <= len(stop.encode(errors="replace")) <= _MAX_STOP_BYTES for stop in sampling.stop):
        raise SamplingError("stop", f"holds a text that is empty or longer than {_MAX_STOP_BYTES} bytes")


def _message(message: Message) -> dict[str, Any]:
    shown: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name:
        shown["name"] = message.name
    if message.tool_calls:
        shown["tool_calls"] = marked_calls(message.tool_calls)
    if message.tool_call_id:
        shown["tool_call_id"] = message.tool_call_id
    return shown


def _tool(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}
