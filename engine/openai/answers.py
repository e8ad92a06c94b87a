"""How answers read: OpenAI's objects, whole or in pieces, as JSON or as server-sent events.

Times are seconds since the epoch.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.generation.base import Piece, TokenScore, ToolCall
from engine.openai.choices import Choice, Usage

__all__ = ["DONE", "Answer", "Kind", "embeddings", "event", "model", "models"]

Kind: TypeAlias = Literal["chat", "completion"]
DONE = b"data: [DONE]\n\n"
"""What a stream ends with."""

_OBJECTS = {"chat": "chat.completion", "completion": "text_completion"}
_CHUNKS = {"chat": "chat.completion.chunk", "completion": "text_completion"}
_IDS = {"chat": "chatcmpl-", "completion": "cmpl-"}


def event(value: object) -> bytes:
    """An event of a stream."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


@dataclass(slots=True)
class Answer:
    """One answer, whose pieces all say the same of it.

    Attributes:
        kind: to a conversation or to a text.
        model: its name, as the caller wrote it.
        uid: of the request.
        created: when it came.
        usage: whether a stream tells what it used up; each event says so then.
    """

    kind: Kind
    model: str
    uid: str
    created: int
    usage: bool = False

    def whole(self, choices: Sequence[Choice], usage: Usage) -> dict[str, Any]:
        """All of it at once."""
        show = _chat_choice if self.kind == "chat" else _completion_choice
        shown = [show(choice, at) for at, choice in enumerate(choices)]
        return {**self._head(_OBJECTS[self.kind]), "choices": shown, "usage": _usage(usage)}

    def first(self, index: int) -> dict[str, Any] | None:
        """What comes before a choice's first piece: who speaks. Nothing for texts."""
        return self._chunk(_delta(index, {"role": "assistant", "content": ""})) if self.kind == "chat" else None

    def piece(self, index: int, piece: Piece, offset: int) -> dict[str, Any]:
        """The next piece of a choice; `offset` is how many characters came before it."""
        if self.kind == "completion":
            scores = _completion_scores(piece.scores, offset) if piece.scores else None
            return self._chunk({"index": index, "text": piece.text, "logprobs": scores, "finish_reason": piece.finish})
        delta: dict[str, Any] = {"content": piece.text} if piece.text else {}
        if piece.tool_calls:
            delta["tool_calls"] = [{"index": at, **_tool_call(call)} for at, call in enumerate(piece.tool_calls)]
        scores = _chat_scores(piece.scores) if piece.scores else None
        return self._chunk({**_delta(index, delta), "logprobs": scores, "finish_reason": piece.finish})

    def last(self, usage: Usage) -> dict[str, Any]:
        """What a stream says of its use, behind all pieces."""
        return {**self._head(_CHUNKS[self.kind]), "choices": [], "usage": _usage(usage)}

    def _chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        chunk = {**self._head(_CHUNKS[self.kind]), "choices": [choice]}
        return {**chunk, "usage": None} if self.usage else chunk

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": _IDS[self.kind] + self.uid, "object": kind, "created": self.created, "model": self.model}


def embeddings(name: str, vectors: NDArray[np.float32], tokens: int, *, as_base64: bool) -> bytes:
    """Vectors, float32 (n, d), as numbers, or in base64 as little-endian float32."""
    data = [
        {"object": "embedding", "index": at, "embedding": _packed(vector) if as_base64 else vector.tolist()}
        for at, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": name, "usage": usage})


def model(name: str, created: int, owner: str) -> dict[str, Any]:
    """A model."""
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def models(shown: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Models."""
    return {"object": "list", "data": list(shown)}


def _packed(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _usage(usage: Usage) -> dict[str, int]:
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _chat_choice(choice: Choice, index: int) -> dict[str, Any]:
    text = choice.text
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if choice.tool_calls:
        message["content"] = text or None
        message["tool_calls"] = [_tool_call(call) for call in choice.tool_calls]
    scores = _chat_scores(choice.scores) if choice.scores else None
    return {"index": index, "message": message, "logprobs": scores, "finish_reason": choice.finish}


def _completion_choice(choice: Choice, index: int) -> dict[str, Any]:
    scores = _completion_scores(choice.scores, 0) if choice.scores else None
    return {"index": index, "text": choice.text, "logprobs": scores, "finish_reason": choice.finish}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _chat_scores(scores: Sequence[TokenScore]) -> dict[str, Any]:
    def one(token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": logprob, "bytes": list(token.encode(errors="replace"))}

    return {
        "content": [
            {**one(score.token, score.logprob), "top_logprobs": [one(*each) for each in score.top]} for score in scores
        ],
        "refusal": None,
    }


def _completion_scores(scores: Sequence[TokenScore], offset: int) -> dict[str, Any]:
    offsets = []
    for score in scores:
        offsets.append(offset)
        offset += len(score.token)
    return {
        "tokens": [score.token for score in scores],
        "token_logprobs": [score.logprob for score in scores],
        "top_logprobs": [dict(score.top) for score in scores],
        "text_offset": offsets,
    }
