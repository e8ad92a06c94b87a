"""Answers of inference requests in REST: JSON, and the bytes of those outputs that were asked for so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.oip.data import json_of_raw
from engine.oip.requests import Asked, RestTensor

__all__ = ["RestAnswer", "write_answer"]


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """A body: JSON of `json_bytes` bytes, and what follows it; None where nothing does."""

    data: bytes
    json_bytes: int | None


def write_answer(head: Mapping[str, Any], outputs: Sequence[RestTensor], asked: Asked) -> RestAnswer:
    """The body of an answer.

    Args:
        head: what stands before the outputs: `model_name`, `model_version`, `id`, `parameters`.
        outputs: in the order of the answer.
        asked: which of them come as bytes.

    Raises:
        TensorError: an output that shall be JSON cannot be said so.
    """
    described: list[dict[str, Any]] = []
    behind: list[bytes] = []
    for output in outputs:
        one: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        parameters = dict(output.parameters)
        if output.raw is not None and asked.as_bytes(output.name):
            parameters["binary_data_size"] = len(output.raw)
            behind.append(output.raw)
        elif output.raw is not None:
            one["data"] = json_of_raw(output.name, output.datatype, output.shape, output.raw)
        described.append({**one, "parameters": parameters} if parameters else one)
    json = msgspec.json.encode({**{key: value for key, value in head.items() if value}, "outputs": described})
    if not behind:
        return RestAnswer(json, None)
    return RestAnswer(b"".join([json, *behind]), len(json))
