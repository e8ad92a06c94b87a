"""Texts that a model writes, as clients of Triton's back ends for generation ask for them: one text, and how to go on.

Tensors have the names that vLLM's and TensorRT-LLM's back ends gave them. What is wished stands in parameters of the
request, or all together as JSON in the tensor `sampling_parameters`. How texts are written is `engine.generation`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.errors import ParameterError
from engine.generation.base import Sampling
from engine.parameters import Parameter
from engine.tensor import Tensor, TensorSpec

__all__ = ["CHOICES", "TextWish", "read_text_wish"]

CHOICES = (
    TensorSpec("stream", "BOOL", (1,)),
    TensorSpec("sampling_parameters", "BYTES", (1,)),
    TensorSpec("exclude_input_in_output", "BOOL", (1,)),
)
"""Inputs that may be left out, beside the texts."""
_SETTINGS = "sampling_parameters"


@dataclass(frozen=True, slots=True)
class TextWish:
    """How texts are gone on with.

    Attributes:
        sampling: how tokens are chosen.
        stream: whether the answer comes in parts; None where that is not said.
        with_prompt: whether the answer begins with the text that it goes on from.
    """

    sampling: Sampling
    stream: bool | None
    with_prompt: bool


def read_text_wish(parameters: Mapping[str, Parameter], choices: Mapping[str, Tensor], max_tokens: int) -> TextWish:
    """What a request wishes; a number may be a text, as in vLLM's examples. Unknown parameters are left to others.

    Args:
        parameters: of the request.
        choices: tensors of `CHOICES`; what is said there counts.
        max_tokens: the longest answer where nothing is said.

    Raises:
        ParameterError: naming the one that cannot be; of `sampling_parameters` an unknown one too.
    """
    said: dict[str, Any] = {**parameters, **{name: tensor.item() for name, tensor in choices.items()}}
    settings = {name: said[name] for name in _READERS if name in said}
    if _SETTINGS in said:
        settings |= _settings(said[_SETTINGS])
    read = {name: _READERS[name](name, value) for name, value in settings.items()}
    stream = _truth("stream", said["stream"]) if "stream" in said else None
    alone = _truth("exclude_input_in_output", said.get("exclude_input_in_output", True))
    return TextWish(Sampling(**{"max_tokens": max_tokens, **read}), stream, not alone)


def _settings(text: object) -> dict[str, Any]:
    """What `sampling_parameters` says: a JSON object."""
    if not isinstance(text, str | bytes):
        raise ParameterError(_SETTINGS, "must be a JSON object as text")
    try:
        found = msgspec.json.decode(text or "{}", type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ParameterError(_SETTINGS, f"is no JSON object: {str(error)[:200]}") from None
    for name in found:
        if name not in _READERS:
            raise ParameterError(_SETTINGS, f"`{name[:64]}` is not known; known are {', '.join(_READERS)}")
    return found


def _truth(name: str, value: object) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise ParameterError(name, "must be true or false")
    return value


def _whole(name: str, value: object) -> int:
    if isinstance(value, str) and len(value) <= 32 and value.removeprefix("-").isdecimal():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ParameterError(name, "must be a whole number")
    return value


def _number(name: str, value: object) -> float:
    found = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            found = float(value)
        except (ValueError, OverflowError):
            found = math.nan
    if not math.isfinite(found):
        raise ParameterError(name, "must be a number")
    return found


def _texts(name: str, value: object) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise ParameterError(name, "must be a text, or a list of texts")
    return tuple(each for each in listed if each)


def _schema(name: str, value: object) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise ParameterError(name, f"is no JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise ParameterError(name, "must be a JSON Schema: an object, or one as text")
    return value


_READERS: Mapping[str, Callable[[str, object], Any]] = {
    "max_tokens": _whole,
    "temperature": _number,
    "top_p": _number,
    "top_k": _whole,
    "seed": _whole,
    "stop": _texts,
    "frequency_penalty": _number,
    "presence_penalty": _number,
    "json_schema": _schema,
}
"""What may be wished, as in `Sampling`."""
