"""What a request of OpenAI's comes to for a model: a prompt for each answer, and how its tokens are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import FieldError, FieldUnsupportedError
from engine.generation.base import Message, Prompt, Sampling, Tool, ToolCall
from engine.openai.reading import check_neutral
from engine.openai.requests import (
    CHAT_NEUTRAL,
    COMPLETION_NEUTRAL,
    MAX_CHOICES,
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    ContentPart,
    ResponseFormat,
)

__all__ = ["Asked", "ask_chat", "ask_completion"]

_DEFAULT_TOKENS = 16
"""What a completion that says nothing is long, as OpenAI has it; a turn of a conversation may be as long as it gets."""
_SEEDS = 2**63
"""Seeds are counted modulo this: each of several answers has its own, and none is negative."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model is asked for.

    Attributes:
        model: its name, as the caller wrote it.
        choices: a prompt and how to go on from it, for each answer.
        prompts: how many different prompts that are; answers to one stand beside each other.
        streams: whether the answers come in pieces.
        usage: whether a stream ends with what it used up.
        key: what keeps a caller at one version of an alias; empty where nothing does.
    """

    model: str
    choices: Sequence[tuple[Prompt, Sampling]]
    prompts: int
    streams: bool
    usage: bool
    key: str = ""


def ask_chat(request: ChatRequest) -> Asked:
    """What a conversation asks for.

    Raises:
        FieldError: fields contradict each other, or a message is not one.
        FieldUnsupportedError: the engine cannot do it.
    """
    check_neutral(request, CHAT_NEUTRAL)
    if request.top_logprobs is not None and not request.logprobs:
        raise FieldError("top_logprobs", "needs `logprobs: true`")
    tools = tuple(
        Tool(tool.function.name, tool.function.description or "", tool.function.parameters or {})
        for tool in request.tools or ()
    )
    prompt = Prompt(
        messages=tuple(_message(message, at) for at, message in enumerate(request.messages)),
        tools=tools,
        tool_choice=_tool_choice(request, [tool.name for tool in tools]),
    )
    limit = request.max_completion_tokens or request.max_tokens or 0
    scores = (request.top_logprobs or 0) if request.logprobs else None
    schema = _schema(request.response_format)
    said = {"max_tokens": limit, "top_logprobs": scores, "json_schema": schema}
    return _asked(request, [prompt], said, request.user or request.safety_identifier or "")


def ask_completion(request: CompletionRequest) -> Asked:
    """What a text, or several, ask for.

    Raises:
        FieldError: the prompt is none, or there are too many.
        FieldUnsupportedError: the engine cannot do it.
    """
    check_neutral(request, COMPLETION_NEUTRAL)
    prompts = [Prompt(text=text) for text in _texts(request.prompt)]
    said = {"max_tokens": request.max_tokens or _DEFAULT_TOKENS, "top_logprobs": request.logprobs}
    return _asked(request, prompts, said, request.user or "")


def _asked(
    request: ChatRequest | CompletionRequest, prompts: Sequence[Prompt], said: dict[str, Any], key: str
) -> Asked:
    count = request.n or 1
    if count * len(prompts) > MAX_CHOICES:
        raise FieldError("n", f"comes to {count * len(prompts)} answers; at most {MAX_CHOICES} are made at once")
    if request.stream_options is not None and not request.stream:
        raise FieldError("stream_options", "needs `stream: true`")
    chosen = {
        name: getattr(request, name)
        for name in ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty")
    }
    said |= {name: value for name, value in chosen.items() if value is not None}
    said["stop"] = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    choices = [
        (prompt, Sampling(**said, seed=None if request.seed is None else (request.seed + at) % _SEEDS))
        for prompt in prompts
        for at in range(count)
    ]
    usage = request.stream_options is not None and request.stream_options.include_usage
    return Asked(request.model, choices, len(prompts), bool(request.stream), usage, key)


def _texts(prompt: object) -> list[str]:
    texts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(texts, list) or not texts:
        raise FieldError("prompt", "must be a text, or a list of them")
    for at, text in enumerate(texts):
        if isinstance(text, int | list) and not isinstance(text, bool):
            raise FieldUnsupportedError("prompt", "token ids are not taken here; send texts")
        if not isinstance(text, str):
            raise FieldError(f"prompt[{at}]", "must be a text")
    return texts


def _message(message: ChatMessage, at: int) -> Message:
    path = f"messages[{at}]"
    if message.role == "tool" and not message.tool_call_id:
        raise FieldError(f"{path}.tool_call_id", "is missing; a turn of a tool says which call it answers")
    if message.tool_calls and message.role != "assistant":
        raise FieldError(f"{path}.tool_calls", "only an assistant's turn has them")
    if message.content is None and message.role != "assistant":
        raise FieldError(f"{path}.content", "is missing")
    calls = tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ())
    role = "system" if message.role == "developer" else message.role
    return Message(role, _content(message.content, path), message.name, calls, message.tool_call_id)


def _content(content: str | list[ContentPart] | None, path: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for at, part in enumerate(content):
        if part.type != "text":
            raise FieldUnsupportedError(f"{path}.content[{at}].type", f"{part.type[:32]!r} is not read; send text")
        if part.text is None:
            raise FieldError(f"{path}.content[{at}].text", "is missing")
    return "".join(part.text or "" for part in content)


def _tool_choice(request: ChatRequest, names: Sequence[str]) -> str:
    chosen = request.tool_choice
    if len(set(names)) != len(names):
        raise FieldError("tools", "two of them have the same name")
    if taken := [name for name in names if name in ("auto", "none", "required")]:
        raise FieldError("tools", f"none may be called `{taken[0]}`; `tool_choice` could mean another thing")
    if chosen is None:
        return "auto"
    if isinstance(chosen, str):
        if chosen == "required" and not names:
            raise FieldError("tool_choice", "needs `tools`")
        return chosen
    if chosen.function.name not in names:
        raise FieldError("tool_choice.function.name", f"none of the tools is called `{chosen.function.name}`")
    return chosen.function.name


def _schema(wanted: ResponseFormat | None) -> dict[str, Any] | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "object"}
    if wanted.json_schema is None:
        raise FieldError("response_format.json_schema", "is missing")
    return wanted.json_schema.schema or {}
