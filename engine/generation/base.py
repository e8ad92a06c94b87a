"""What generation is to those who ask for it: what they may ask, what comes back, piece by piece.

How tokens are computed is the rest of this package; how pieces reach a caller is the servicers'.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from engine.scheduler.terms import PLAIN, Terms

__all__ = ["Finish", "Generator", "Message", "Piece", "Prompt", "Sampling", "TokenScore", "Tool", "ToolCall"]

Finish: TypeAlias = Literal["stop", "length", "tool_calls"]
"""Why a text ended: by itself or a stop text, by its longest length, or with calls of tools."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that a model asks for: `arguments` is a JSON object as text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: `system`, `user`, `assistant` or `tool`.
        content: its text.
        name: who speaks, where that is said.
        tool_calls: what an assistant's turn asked for.
        tool_call_id: which call a tool's turn answers.
    """

    role: str
    content: str
    name: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that a model may call; `parameters` is the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to go on from: a text as it is, or a conversation that the model's chat template makes a text of.

    Attributes:
        text: the text; None where there are messages.
        messages: the conversation.
        tools: what the model may call in answer to it.
        tool_choice: `auto`, `none`, `required`, or the name of the one tool to call.
    """

    text: str | None = None
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen, and when to end.

    Attributes:
        max_tokens: the most tokens to make; 0 means as many as the model's context holds.
        temperature: 0 takes the most probable one; None means as the model says.
        top_p: only the most probable ones that come to this share together, from above 0 to 1; None as above.
        top_k: only so many of the most probable ones; 0 means all, None as above.
        seed: the same seed and prompt give the same text, whatever else is computed beside it; None draws one.
        stop: texts that end the answer; they are not part of it.
        frequency_penalty: taken from a token's logit for each time that it was made, from -2 to 2.
        presence_penalty: taken once from the logit of a token that was made, from -2 to 2.
        top_logprobs: of so many tokens the log-probabilities are told; None tells none, 0 the chosen one's alone.
        json_schema: the answer is a JSON value that this schema allows; None leaves it free.
    """

    max_tokens: int = 0
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    top_logprobs: int | None = None
    json_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token's text and log-probability, with those of the most probable ones in its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """The next part of an answer; the last one says why it ended.

    Attributes:
        text: of whole characters; a character in several tokens comes when it is whole.
        finish: why the answer ended; None before.
        tool_calls: what the model asks for, with the last piece.
        prompt_tokens: how many tokens the prompt has.
        completion_tokens: how many were made up to now.
        scores: of the tokens in `text`, where they were asked for.
    """

    text: str
    finish: Finish | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    scores: tuple[TokenScore, ...] = field(default=())


@runtime_checkable
class Generator(Protocol):
    """A model in memory that goes on with a text."""

    @property
    def context(self) -> int:
        """How many tokens prompt and answer may have together."""

    def generate(self, prompt: Prompt, sampling: Sampling, terms: Terms = PLAIN) -> AsyncIterator[Piece]:
        """The answer, piece by piece. Whoever stops iterating (`aclose`) stops its computation within a step.

        Raises:
            EngineError: before the first piece, where the prompt or the sampling cannot be; or the model failed.
        """
