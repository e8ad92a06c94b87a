"""Inference requests in REST: from a body to what is asked and each tensor's raw bytes.

The shape of the answer is `engine.oip.answers`'; whether tensors fit the model is seen where they are decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from engine.errors import BodyError, TensorError
from engine.oip.bodies import Body
from engine.oip.data import raw_of_json
from engine.parameters import Parameter

__all__ = ["Asked", "RestRequest", "RestTensor", "Wanted", "read_request"]

_MAX_TENSORS = 4096
_MAX_PARAMETERS = 256
_SHARED = "shared_memory_region"
_SIZE = "binary_data_size"
_AS_BYTES = "binary_data"
_ALL_AS_BYTES = "binary_data_output"


_Length = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_ABSENT = msgspec.Raw()
_BLANK = b" \t\r\n"
_EMPTY = (b"", b"[]", b"null")
"""`data` that hold nothing: kserve sends null beside the size of a tensor without elements."""


class _Tensor(msgspec.Struct):
    name: str
    shape: list[_Length]
    datatype: str
    parameters: dict[str, Any] = {}
    data: msgspec.Raw = _ABSENT


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: list[_Tensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_Output] = []


@dataclass(frozen=True, slots=True)
class RestTensor:
    """An input or output.

    Attributes:
        raw: its elements as the protocol's raw contents; None where they lie in shared memory.
        parameters: without those that only say how it travelled.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    raw: bytes | None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that is asked for, and whether it comes as bytes behind the JSON."""

    name: str
    as_bytes: bool
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """What outputs are asked for: these, or all of them where there are none."""

    outputs: Sequence[Wanted]
    all_as_bytes: bool

    def as_bytes(self, name: str) -> bool:
        """Whether an output comes as bytes behind the JSON."""
        return next((wanted.as_bytes for wanted in self.outputs if wanted.name == name), self.all_as_bytes)


@dataclass(frozen=True, slots=True)
class RestRequest:
    """A whole request."""

    id: str
    parameters: Mapping[str, Parameter]
    inputs: Sequence[RestTensor]
    asked: Asked


_DECODER = msgspec.json.Decoder(_Request)


def read_request(body: Body) -> RestRequest:
    """Read an inference request.

    Raises:
        BodyError: the JSON is none, or not of a request; the message names the place.
        TensorError: a tensor's data are wrong, or its bytes are not there.
    """
    try:
        request = _DECODER.decode(body.json)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _no_json(error) from None
    if len(request.inputs) > _MAX_TENSORS or len(request.outputs) > _MAX_TENSORS:
        raise BodyError(f"the request has more than {_MAX_TENSORS} inputs or outputs")
    parameters = _parameters(request.parameters, "parameters")
    everything = _flag(parameters.pop(_ALL_AS_BYTES, False), f"parameters.{_ALL_AS_BYTES}")
    given = list(_inputs(request.inputs, body.tensors))
    wanted = [_wanted(output, at, otherwise=everything) for at, output in enumerate(request.outputs)]
    return RestRequest(request.id, parameters, given, Asked(wanted, everything))


def _no_json(error: Exception) -> BodyError:
    if isinstance(error, RecursionError):
        return BodyError("the body's JSON is nested too deeply")
    if isinstance(error, msgspec.ValidationError):
        return BodyError(f"the body's JSON is no such request: {str(error).replace('`$.', '`').replace('`$', '`body')}")
    return BodyError(f"the body is no JSON: {str(error)[:200]}")


def _inputs(tensors: Sequence[_Tensor], data: memoryview) -> Iterator[RestTensor]:
    """The inputs, each with its own part of the bytes behind the JSON; all of these must be somebody's."""
    at = 0
    for number, tensor in enumerate(tensors):
        parameters = _parameters(tensor.parameters, f"inputs[{number}].parameters")
        size = parameters.pop(_SIZE, None)
        if size is not None:
            end = at + _checked_size(tensor, size, len(data) - at)
            raw: bytes | None = bytes(data[at:end])
            at = end
        elif _SHARED in parameters:
            raw = None
        elif not bytes(tensor.data):
            raise TensorError(tensor.name, f"has neither `data` nor the parameter `{_SIZE}` nor `{_SHARED}`")
        else:
            raw = raw_of_json(tensor.name, tensor.datatype, tensor.shape, memoryview(tensor.data))
        if size is not None and bytes(tensor.data).translate(None, _BLANK) not in _EMPTY:
            raise TensorError(tensor.name, f"has both `data` and `{_SIZE}`; send one")
        if raw is None and bytes(tensor.data):
            raise TensorError(tensor.name, f"has both `data` and `{_SHARED}`; send one")
        yield RestTensor(tensor.name, tensor.datatype, tensor.shape, raw, parameters)
    if at != len(data):
        raise BodyError(f"{len(data) - at} bytes follow the JSON that are no input's; see `{_SIZE}`")


def _checked_size(tensor: _Tensor, size: Parameter, left: int) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise TensorError(tensor.name, f"`{_SIZE}` is no number of bytes")
    if size > left:
        raise TensorError(tensor.name, f"`{_SIZE}` says {size} bytes, and {left} are left behind the JSON")
    return size


def _wanted(output: _Output, number: int, *, otherwise: bool) -> Wanted:
    path = f"outputs[{number}].parameters"
    parameters = _parameters(output.parameters, path)
    as_bytes = _flag(parameters.pop(_AS_BYTES, otherwise), f"{path}.{_AS_BYTES}")
    return Wanted(output.name, as_bytes, parameters)


def _flag(value: Parameter, path: str) -> bool:
    if not isinstance(value, bool):
        raise BodyError(f"{path}: must be true or false")
    return value


def _parameters(given: Mapping[str, Any], path: str) -> dict[str, Parameter]:
    """Parameters, each a plain value.

    Raises:
        BodyError: one is a list, an object, null, or a number of more than 64 bits; or there are too many.
    """
    if len(given) > _MAX_PARAMETERS:
        raise BodyError(f"{path}: {len(given)} are sent; at most {_MAX_PARAMETERS} are taken")
    for name, value in given.items():
        if not isinstance(value, Parameter) or (isinstance(value, int) and not -(2**63) <= value < 2**64):
            raise BodyError(f"{path}.{name[:64]}: must be true, false, a text, or a number of at most 64 bits")
    return dict(given)
