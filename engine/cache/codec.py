"""Answers as bytes and back; what comes back from a store that others can reach is checked like any input."""

from __future__ import annotations

import msgspec

from engine.errors import TensorError
from engine.servables.base import Classified, Inference
from engine.tensor import datatype_of, decode_raw, encode_raw, texts_tensor

__all__ = ["AnswerInvalidError", "as_classified", "as_inference", "decode_answer", "encode_answer"]


class AnswerInvalidError(ValueError):
    """Bytes that are no answer."""


class _Part(msgspec.Struct, frozen=True, array_like=True):
    """An output: its name, datatype, shape and raw contents."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """An answer: see `Inference`."""

    rows: int
    tokens: int
    parts: tuple[_Part, ...]


def encode_answer(answer: Inference) -> bytes:
    """An answer as bytes."""
    parts = tuple(
        _Part(name, datatype_of(value), value.shape, encode_raw(value)) for name, value in answer.outputs.items()
    )
    return msgspec.msgpack.encode(_Kept(answer.rows, answer.tokens, parts))


def decode_answer(data: bytes) -> Inference:
    """An answer from its bytes; its numbers are read only.

    Raises:
        AnswerInvalidError: they are none.
    """
    try:
        kept = msgspec.msgpack.decode(data, type=_Kept)
        outputs = {part.name: decode_raw(part.name, part.datatype, part.shape, part.data) for part in kept.parts}
    except (msgspec.DecodeError, ValueError, TensorError) as error:
        raise AnswerInvalidError(str(error)) from None
    return Inference(outputs, kept.rows, kept.tokens)


def as_inference(found: Classified) -> Inference:
    """Labels as tensors."""
    outputs = {
        "labels": texts_tensor(found.labels),
        "scores": found.scores,
        "names": texts_tensor(found.names),
        "all_scores": found.all_scores,
    }
    return Inference(outputs, len(found.labels), found.tokens)


def as_classified(answer: Inference) -> Classified:
    """Labels from tensors.

    Raises:
        AnswerInvalidError: they hold none.
    """
    try:
        labels, names = ([text.decode() for text in answer.outputs[key]] for key in ("labels", "names"))
        scores, all_scores = answer.outputs["scores"], answer.outputs["all_scores"]
    except (KeyError, AttributeError, UnicodeDecodeError) as error:
        raise AnswerInvalidError(str(error)) from None
    return Classified(labels, scores, names, all_scores, answer.tokens)
