"""Texts that a model writes, in REST: Triton's `generate` and `generate_stream`, whose fields are tensors by name.

What may be wished is `engine.oip.texts`'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.errors import BodyError
from engine.oip.data import json_of_raw
from engine.oip.requests import RestTensor
from engine.parameters import Parameter

__all__ = ["GenerateRequest", "event", "read_generate", "write_generated"]

_TEXTS, _ID, _PARAMETERS, _SETTINGS = "text_input", "id", "parameters", "sampling_parameters"
_MAX_FIELDS = 256


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What is asked for.

    Attributes:
        id: the caller's own name for it.
        texts: what is gone on from.
        parameters: every other field, and those in `parameters`.
    """

    id: str
    texts: Sequence[str]
    parameters: Mapping[str, Parameter]


def read_generate(data: bytes) -> GenerateRequest:
    """Read a request: lists and objects among the settings become a part of `sampling_parameters`.

    Raises:
        BodyError: it is no JSON object, or not of such a request; the message names the field.
    """
    try:
        body = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BodyError(f"the body is no JSON object: {str(error)[:200]}") from None
    given = body.pop(_PARAMETERS, None) or {}
    if not isinstance(given, dict):
        raise BodyError(f"{_PARAMETERS}: must be an object")
    uid, texts = body.pop(_ID, ""), body.pop(_TEXTS, None)
    if not isinstance(uid, str):
        raise BodyError(f"{_ID}: must be a text")
    listed = [texts] if isinstance(texts, str) else texts
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise BodyError(f"{_TEXTS}: must be a text, or a list of texts")
    return GenerateRequest(uid, listed, _parameters({**body, **given}))


def write_generated(head: Mapping[str, Any], outputs: Sequence[RestTensor]) -> bytes:
    """The body of an answer: outputs by name, one element as it is and several as a list.

    Args:
        head: what stands before them.
        outputs: in the order of the answer.

    Raises:
        TensorError: JSON cannot say one.
    """
    shown = {}
    for each in outputs:
        listed = json_of_raw(each.name, each.datatype, each.shape, each.raw or b"")
        shown[each.name] = msgspec.Raw(bytes(listed)[1:-1]) if math.prod(each.shape) == 1 else listed
    return msgspec.json.encode({**{key: value for key, value in head.items() if value != ""}, **shown})


def event(body: bytes) -> bytes:
    """An event of a stream."""
    return b"data: " + body + b"\n\n"


def _parameters(given: Mapping[str, Any]) -> dict[str, Parameter]:
    if len(given) > _MAX_FIELDS:
        raise BodyError(f"{len(given)} fields are sent; at most {_MAX_FIELDS} are taken")
    said: dict[str, Parameter] = {}
    settings: dict[str, Any] = {}
    for name, value in given.items():
        if name == _SETTINGS and isinstance(value, dict):
            settings = {**value, **settings}
        elif isinstance(value, list | dict):
            settings[name] = value
        elif isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise BodyError(f"{name[:64]}: must be a number of at most 64 bits")
        elif value is not None:
            said[name] = value
    if settings and _SETTINGS in said:
        raise BodyError(f"{_SETTINGS}: send it as an object where {next(iter(settings))[:64]} stands beside it")
    return {**said, _SETTINGS: msgspec.json.encode(settings).decode()} if settings else said
