"""What OpenAI's requests hold, field by field, named and typed as its clients send them.

A field that none of these has is refused by name; so is one that asks for what the engine cannot do. What a request
comes to for a model is `engine.openai.asking`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

__all__ = [
    "CHAT_NEUTRAL",
    "COMPLETION_NEUTRAL",
    "MAX_CHOICES",
    "ChatMessage",
    "ChatRequest",
    "CompletionRequest",
    "ContentPart",
    "EmbeddingsRequest",
    "FunctionTool",
    "ResponseFormat",
]

MAX_CHOICES = 16
"""Answers of one request: `n` for each prompt."""
_MAX_MESSAGES = 4096
_MAX_TOOLS = 128

_Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_Choices: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_CHOICES)]
_Temperature: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=2)]
_Share: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=1)]
_Penalty: TypeAlias = Annotated[float, msgspec.Meta(ge=-2, le=2)]
_Seed: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_StopText: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
_Stop: TypeAlias = _StopText | Annotated[list[_StopText], msgspec.Meta(max_length=16)]
_FunctionName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a stream reads; obfuscation is padding that nothing here adds."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ContentPart(msgspec.Struct, frozen=True):
    """A part of a message; only texts are read."""

    type: str
    text: str | None = None


class CalledFunction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model had called."""

    name: _FunctionName
    arguments: str


class CalledTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call that a model had asked for."""

    id: _Name
    function: CalledFunction
    type: Literal["function"] = "function"
    index: int | None = None


class ChatMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A turn. What a client sends back of an answer and says nothing more is taken along: `refusal` and the rest."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: str = ""
    tool_calls: list[CalledTool] | None = None
    tool_call_id: str = ""
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None


class Function(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function that a model may call; `strict` is always so."""

    name: _FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool; there are no others than functions."""

    type: Literal["function"]
    function: Function


class NamedFunction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function by its name."""

    name: _FunctionName


class NamedTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The one tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The schema that an answer must fit."""

    name: str
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an answer must be: any text, a JSON object, or what a schema allows."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class _Generation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What both ways of generating take; `top_k` is not OpenAI's."""

    model: _Name
    frequency_penalty: _Penalty | None = None
    max_tokens: _Count | None = None
    n: _Choices | None = None
    presence_penalty: _Penalty | None = None
    seed: _Seed | None = None
    stop: _Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: _Temperature | None = None
    top_p: _Share | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    logit_bias: Any = None
    user: str | None = None


class ChatRequest(_Generation, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], msgspec.Meta(min_length=1, max_length=_MAX_MESSAGES)]
    logprobs: bool | None = None
    max_completion_tokens: _Count | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[FunctionTool], msgspec.Meta(max_length=_MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    safety_identifier: str | None = None
    # taken and not used
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    # not supported: see `CHAT_NEUTRAL`
    audio: Any = None
    function_call: Any = None
    functions: Any = None
    modalities: Any = None
    parallel_tool_calls: Any = None
    prediction: Any = None
    reasoning_effort: Any = None
    service_tier: Any = None
    store: Any = None
    verbosity: Any = None
    web_search_options: Any = None


class CompletionRequest(_Generation, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/completions`."""

    prompt: Any
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    # not supported: see `COMPLETION_NEUTRAL`
    best_of: Any = None
    echo: Any = None
    suffix: Any = None


class EmbeddingsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/embeddings`."""

    model: _Name
    input: Any
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


_GENERATION_NEUTRAL: Mapping[str, Sequence[Any]] = {"logit_bias": [{}]}
CHAT_NEUTRAL: Mapping[str, Sequence[Any]] = {
    **_GENERATION_NEUTRAL,
    "audio": [],
    "function_call": [],
    "functions": [],
    "modalities": [["text"]],
    "parallel_tool_calls": [True],
    "prediction": [],
    "reasoning_effort": [],
    "service_tier": ["auto", "default"],
    "store": [False],
    "verbosity": [],
    "web_search_options": [],
}
COMPLETION_NEUTRAL: Mapping[str, Sequence[Any]] = {
    **_GENERATION_NEUTRAL,
    "best_of": [1],
    "echo": [False],
    "suffix": [""],
}
"""What these fields may hold, because it asks for nothing."""
