"""What `/v1/embeddings` asks for: texts, or rows of token ids as an encoder takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.errors import FieldError, FieldUnsupportedError
from engine.openai.requests import EmbeddingsRequest
from engine.tensor import Tensor

__all__ = ["Inputs", "check_dimensions", "inputs_of"]

_MAX_INPUTS = 1024
_MAX_TEXT_BYTES = 64 * 1024
_MAX_TOKENS = 8192
"""Of a row; what the model reads is less, and it says so."""
_LARGEST_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Inputs:
    """Texts; or, where there are none, tensors of token ids by their names."""

    texts: Sequence[str] = ()
    tensors: dict[str, Tensor] = field(default_factory=dict)


def inputs_of(request: EmbeddingsRequest) -> Inputs:
    """What shall become vectors.

    Raises:
        FieldError: the input is neither a text nor token ids, nor a list of either; or it is too much.
    """
    given = request.input
    if isinstance(given, str):
        return Inputs(texts=[_text(given, "input")])
    if not isinstance(given, list) or not given:
        raise FieldError("input", "must be a text, a list of texts, token ids, or a list of lists of token ids")
    if type(given[0]) is int:
        return Inputs(tensors=_tensors([_ids(given, "input")]))
    if len(given) > _MAX_INPUTS:
        raise FieldError("input", f"holds {len(given)}; at most {_MAX_INPUTS} are taken at once")
    if isinstance(given[0], list):
        return Inputs(tensors=_tensors([_ids(each, f"input[{at}]") for at, each in enumerate(given)]))
    return Inputs(texts=[_text(each, f"input[{at}]") for at, each in enumerate(given)])


def check_dimensions(wanted: int | None, width: int) -> None:
    """See that vectors have the length that is asked for.

    Raises:
        FieldUnsupportedError: another one is.
    """
    if wanted is not None and wanted != width:
        raise FieldUnsupportedError("dimensions", f"the model's vectors have {width} numbers, and are not shortened")


def _text(value: Any, path: str) -> str:  # noqa: ANN401 -- any JSON
    if not isinstance(value, str):
        raise FieldError(path, "must be a text, as all others are")
    if len(value) > _MAX_TEXT_BYTES or len(value.encode(errors="surrogatepass")) > _MAX_TEXT_BYTES:
        raise FieldError(path, f"is longer than {_MAX_TEXT_BYTES} bytes")
    return value


def _ids(value: Any, path: str) -> list[int]:  # noqa: ANN401 -- any JSON
    if not isinstance(value, list) or not value:
        raise FieldError(path, "must be a list of token ids, as all others are")
    if len(value) > _MAX_TOKENS:
        raise FieldError(path, f"holds {len(value)} token ids; at most {_MAX_TOKENS} are taken")
    for at, each in enumerate(value):
        if type(each) is not int or not 0 <= each <= _LARGEST_ID:
            raise FieldError(f"{path}[{at}]", "must be a token id")
    return value


def _tensors(rows: Sequence[list[int]]) -> dict[str, Tensor]:
    """Token ids and their mask, int64 (n, longest), filled up with zeros."""
    width = max(map(len, rows))
    ids, mask = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.int64)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
        mask[at, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}
