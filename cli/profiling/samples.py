"""Requests made up from what a model says that it takes.

How they are sent is `cli.profiling.load`'s.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from inference import grpc_service_pb2 as pb
from inference import model_config_pb2

from mesh.errors import Code, TiationError

__all__ = ["Categories", "NoSampleError", "categories_of", "made_up", "text_of"]

Categories: TypeAlias = Mapping[str, Sequence[Sequence[str]]]
"""By input, the texts that each of its columns may hold; none where a column may hold any."""

_WORDS: Sequence[str] = (
    "the of and to in for is on that by this with you it not or be are from at as your all have new more an was we",
    "will home can us about if page my has search free but our one other do no information time they site he up may",
    "what which their news out use any there see only so his when contact here business who web also now help get view",
)
_FREE_AXIS = 16
"""The length of an axis that may have any, but for the rows."""
_FLOATS: Mapping[str, Any] = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
_WHOLE: Mapping[str, Any] = {
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
}  # fmt: skip
_IMAGE_SIDE = 224


class NoSampleError(TiationError):
    """No request can be made up for a model."""

    code = Code.FAILED_PRECONDITION
    reason = "NO_SAMPLE"


def categories_of(config: model_config_pb2.ModelConfig) -> Categories:
    """The texts that a table's columns may hold, of a model's configuration."""
    found: dict[str, list[Sequence[str]]] = {}
    for column in json.loads(config.parameters["columns"].string_value or "[]") if config.parameters else []:
        found.setdefault(column["input"], []).append(column.get("categories", ()))
    return found


def text_of(words: int, draw: random.Random) -> str:
    """A text of so many words."""
    return " ".join(draw.choices(" ".join(_WORDS).split(), k=words))


def made_up(
    metadata: pb.ModelMetadataResponse,
    rows: int,
    *,
    words: int,
    seed: int,
    shapes: Mapping[str, Sequence[int]],
    categories: Categories = MappingProxyType({}),
) -> pb.ModelInferRequest:
    """A request of some rows; texts of some words, images of noise, numbers at random.

    Args:
        metadata: what the model takes.
        rows: in the first axis of each input.
        words: in a text.
        seed: another one makes another request.
        shapes: lengths of a row's further axes, for inputs that leave them open.
        categories: texts that columns may hold.

    Raises:
        NoSampleError: an input cannot be made up, or there is none of a name.
    """
    takes = [spec.name for spec in metadata.inputs]
    for name in shapes:
        if name not in takes:
            raise NoSampleError(f"--shape {name}: the model has no input `{name}`; it takes {', '.join(takes)}")
    draw = random.Random(seed)  # noqa: S311 -- no secret
    request = pb.ModelInferRequest(model_name=metadata.name)
    request.parameters["cache"].bool_param = False
    for spec in metadata.inputs:
        shape = _shape(spec, rows, shapes.get(spec.name))
        request.inputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
        request.raw_input_contents.append(_content(spec, shape, words, draw, categories.get(spec.name, ())))
    return request


def _shape(spec: pb.ModelMetadataResponse.TensorMetadata, rows: int, further: Sequence[int] | None) -> list[int]:
    declared = list(spec.shape)
    if not declared:
        return []
    if declared[0] not in (-1, rows):
        raise NoSampleError(
            f"{spec.name}: has {declared[0]} rows and no other number; measure it with --batch {declared[0]}"
        )
    rest = [axis if axis != -1 else _FREE_AXIS for axis in declared[1:]] if further is None else list(further)
    if len(rest) != len(declared) - 1:
        raise NoSampleError(f"--shape {spec.name}: a row has {len(declared) - 1} further axes, not {len(rest)}")
    return [rows, *rest]


def _content(
    spec: pb.ModelMetadataResponse.TensorMetadata,
    shape: Sequence[int],
    words: int,
    draw: random.Random,
    columns: Sequence[Sequence[str]],
) -> bytes:
    count = int(np.prod(shape))
    if spec.datatype == "BYTES":
        if spec.name == "image":
            texts = [_image(draw) for _ in range(count)]
        else:
            held = [columns[at % len(columns)] if columns else () for at in range(count)]
            texts = [(draw.choice(known) if known else text_of(words, draw)).encode() for known in held]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    numbers = np.random.default_rng(draw.getrandbits(64))
    if spec.datatype in _FLOATS:
        return numbers.standard_normal(count).astype(_FLOATS[spec.datatype]).tobytes()
    if spec.datatype in _WHOLE:
        return _whole(spec.name, shape, numbers).astype(_WHOLE[spec.datatype]).tobytes()
    if spec.datatype == "BOOL":
        return np.ones(count, np.bool_).tobytes()
    raise NoSampleError(f"{spec.name}: nothing can be made up of type {spec.datatype}")


def _whole(name: str, shape: Sequence[int], numbers: np.random.Generator) -> np.ndarray[Any, Any]:
    """Whole numbers by the names that exports of models of tokens give to their inputs; else small ones."""
    if "mask" in name:
        return np.ones(shape, np.int64)
    if "type" in name:
        return np.zeros(shape, np.int64)
    if "position" in name:
        return np.broadcast_to(np.arange(shape[-1]), shape)
    return numbers.integers(1, 100, shape)


def _image(draw: random.Random) -> bytes:
    """A JPEG of noise, 224 pixels wide and high."""
    from PIL import Image

    noise = Image.frombytes("RGB", (_IMAGE_SIDE, _IMAGE_SIDE), draw.randbytes(3 * _IMAGE_SIDE**2))
    file = io.BytesIO()
    noise.save(file, "JPEG")
    return file.getvalue()
