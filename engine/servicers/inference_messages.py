"""Tensors out of the messages of inference requests, and into those of answers, raw, typed or in shared memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from inference import grpc_service_pb2 as pb

from engine.errors import ParameterError, RegionInvalidError, TensorError
from engine.figures import RequestTimes
from engine.oip.classification import CLASSIFICATION, classes_of, read_count
from engine.oip.places import Place, read_place
from engine.oip.shared_memory import OpenRegion, Regions
from engine.parameters import Parameter
from engine.repository.loaded import Loaded
from engine.servables import Servable
from engine.servables.base import NamesColumns
from engine.tensor import (
    Tensor,
    TensorSpec,
    check_described,
    datatype_of,
    decode_raw,
    decode_typed,
    encode_raw,
    typed_field,
)

__all__ = [
    "Given",
    "Wanted",
    "given_inputs",
    "heard",
    "held",
    "note_timing",
    "read_inputs",
    "size_of",
    "wanted_outputs",
    "write",
]

_MAX_INPUTS = 4096
_LENGTH_BYTES = 4
"""Before each element of BYTES."""
_KIB = 1024
_NOWHERE: AbstractContextManager[Mapping[str, OpenRegion]] = nullcontext({})
"""What nearly all requests use of shared memory."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that is asked for.

    Attributes:
        name: its own.
        place: where it goes in shared memory; None where it goes into the answer.
        classes: of how many classes it is told; 0 for its values themselves.
    """

    name: str
    place: Place | None = None
    classes: int = 0


@dataclass(frozen=True, slots=True)
class Given:
    """The inputs of a request.

    Attributes:
        request: with their descriptions and typed contents.
        raw: raw contents by the input's index.
        places: where in shared memory they lie, by the input's index.
    """

    request: pb.ModelInferRequest
    raw: Mapping[int, bytes]
    places: Mapping[int, Place]

    @property
    def size(self) -> int:
        """How much there is to decode, as `aside` counts."""
        inputs = self.request.inputs
        if not self.raw and not self.places:
            return sum(len(values) for given in inputs for _, values in given.contents.ListFields())
        if not self.places and sum(map(len, self.raw.values())) <= _KIB:
            return 0
        sizes = {at: len(data) for at, data in self.raw.items()}
        sizes |= {at: place.byte_size for at, place in self.places.items()}
        return sum(size // (_LENGTH_BYTES if inputs[at].datatype == "BYTES" else _KIB) for at, size in sizes.items())


def heard(parameters: Any, path: str = "") -> dict[str, Parameter]:  # noqa: ANN401 -- a map of InferParameter
    """Parameters as plain values.

    Args:
        parameters: the message's map.
        path: what an error calls their tensor.

    Raises:
        ParameterError: one has no value.
    """
    values: dict[str, Parameter] = {}
    if not parameters:  # mostly there are none, and to go through none of a message's takes three calls
        return values
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise ParameterError(name[:64], "has no value", path)
        values[name] = getattr(parameter, choice)
    return values


def wanted_outputs(request: pb.ModelInferRequest, specs: Sequence[TensorSpec]) -> list[Wanted]:
    """The outputs that are asked for.

    Raises:
        TensorError: the model has no such output, or it is asked for twice.
        ParameterError: it is not said well where an output shall go.
    """
    if not request.outputs:
        return [Wanted(spec.name) for spec in specs]
    known = [spec.name for spec in specs]
    wanted: dict[str, Wanted] = {}
    for asked in request.outputs:
        name = asked.name
        if name not in known:
            raise TensorError(name, f"the model has no such output; it gives {', '.join(known)}")
        if name in wanted:
            raise TensorError(name, "is asked for twice")
        wanted[name] = Wanted(name)
        if asked.parameters:
            path = f"outputs[{name}]."
            parameters = heard(asked.parameters, path)
            classes = read_count(parameters.get(CLASSIFICATION, 0), path)
            wanted[name] = Wanted(name, read_place(parameters, path), classes)
    return list(wanted.values())


def given_inputs(request: pb.ModelInferRequest) -> Given:
    """Which contents are whose.

    Raises:
        TensorError: there are more inputs than any model has, or not as many raw contents as inputs.
        ParameterError: it is not said well where an input lies.
    """
    count = len(request.inputs)
    if count > _MAX_INPUTS:
        raise TensorError("", f"{count} inputs; at most {_MAX_INPUTS} are taken")
    places: dict[int, Place] = {}
    for at, given in enumerate(request.inputs):
        if given.parameters:
            path = f"inputs[{given.name[:128]}]."
            place = read_place(heard(given.parameters, path), path)
            if place is not None:
                places[at] = place
    raw = list(request.raw_input_contents)
    takers = [at for at in range(count) if at not in places] if places else range(count)
    if raw and len(raw) != len(takers):
        beside = f" beside {len(places)} in shared memory" if places else ""
        raise TensorError("", f"{len(takers)} inputs{beside}, but {len(raw)} raw contents; send one for each")
    return Given(request, dict(zip(takers, raw, strict=False)), places)


def held(
    regions: Regions, tenant: str, given: Given, wanted: Sequence[Wanted]
) -> AbstractContextManager[Mapping[str, OpenRegion]]:
    """The regions that a request uses, open to the end of the block.

    Raises:
        RegionNotFoundError: one is not registered.
    """
    places = [each.place for each in wanted if each.place is not None]
    places += given.places.values()
    return _opened(regions, tenant, {place.region for place in places}) if places else _NOWHERE


@contextmanager
def _opened(regions: Regions, tenant: str, names: Iterable[str]) -> Iterator[dict[str, OpenRegion]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(regions.using(tenant, name)) for name in names}


def read_inputs(given: Given, specs: Sequence[TensorSpec], regions: Mapping[str, OpenRegion]) -> dict[str, Tensor]:
    """The request's tensors.

    Raises:
        TensorError: naming the tensor that is wrong.
        RegionInvalidError: a part of shared memory is not where it is said to be.
    """
    tensors: dict[str, Tensor] = {}
    for at, each in enumerate(given.request.inputs):
        name, place, data = each.name, given.places.get(at), given.raw.get(at)
        if name in tensors:
            raise TensorError(name, "is there twice")
        if each.datatype == "BYTES" or place is not None:  # nothing is taken apart or copied in vain
            _check_taken(each, specs)
        if place is not None:
            data = regions[place.region].read(place.offset, place.byte_size)
        if data is None:
            tensors[name] = _typed(each)
            continue
        if each.HasField("contents"):
            other = "raw contents" if place is None else "contents in shared memory"
            raise TensorError(name, f"has both {other} and typed contents; send one of them")
        tensors[name] = decode_raw(name, each.datatype, each.shape, data)
    return tensors


def _check_taken(given: pb.ModelInferRequest.InferInputTensor, specs: Sequence[TensorSpec]) -> None:
    """See that an input is what a model takes, by what is said of it.

    Raises:
        TensorError: it is not.
    """
    known = {spec.name: spec for spec in specs}
    if given.name not in known:
        takes = ", ".join(known)
        raise TensorError(given.name, f"the model has no such input of {given.datatype[:32]}; it takes {takes}")
    check_described(known[given.name], given.datatype, given.shape)


def write(
    request: pb.ModelInferRequest,
    loaded: Loaded,
    outputs: Mapping[str, Tensor],
    wanted: Sequence[Wanted],
    regions: Mapping[str, OpenRegion],
) -> pb.ModelInferResponse:
    """The answer: outputs in raw contents, as some clients read nothing else, or in shared memory.

    Each output has its entry of raw contents, an empty one where it is in shared memory: clients go by their order.

    Raises:
        RegionInvalidError: an output is larger than its place; then none is written.
    """
    answer = pb.ModelInferResponse(model_name=request.model_name, model_version=str(loaded.version), id=request.id)
    placed: list[tuple[Place, bytes]] = []
    for each in wanted:
        array = outputs[each.name]
        if each.classes:
            array = _as_classes(array, each, loaded.servable)
        data, place = encode_raw(array), each.place
        output = answer.outputs.add(name=each.name, datatype=datatype_of(array), shape=array.shape)
        answer.raw_output_contents.append(data if place is None else b"")
        if place is None:
            continue
        if len(data) > place.byte_size:
            raise RegionInvalidError(
                f"outputs[{each.name}]: is {len(data)} bytes; its place in shared memory region {place.region!r} has "
                f"{place.byte_size}",
                region=place.region,
            )
        output.parameters["shared_memory_region"].string_param = place.region
        output.parameters["shared_memory_offset"].int64_param = place.offset
        output.parameters["shared_memory_byte_size"].int64_param = len(data)
        placed.append((place, data))
    for place, data in placed:
        regions[place.region].write(place.offset, data)
    return answer


def size_of(outputs: Mapping[str, Tensor], wanted: Sequence[Wanted]) -> int:
    """How much there is to encode, as `aside` counts."""
    size = 0
    for each in wanted:
        array = outputs[each.name]
        size += array.size if array.dtype == object else array.nbytes // _KIB
    return size


def note_timing(answer: pb.ModelInferResponse, times: RequestTimes) -> None:
    """Say in an answer where its time went, microseconds, and how many rows the largest run had."""
    for name, seconds in (
        ("queue_us", times.queue_s),
        ("compute_input_us", times.input_s),
        ("compute_infer_us", times.infer_s),
        ("compute_output_us", times.output_s),
    ):
        answer.parameters[name].int64_param = round(seconds * 1e6)
    answer.parameters["batch_rows"].int64_param = times.batch_rows


def _as_classes(array: Tensor, wanted: Wanted, servable: Servable) -> Tensor:
    labels = servable.columns_of.get(wanted.name, ()) if isinstance(servable, NamesColumns) else ()
    return classes_of(wanted.name, array, wanted.classes, labels, rows=servable.policy is not None)


def _typed(given: pb.ModelInferRequest.InferInputTensor) -> Tensor:
    """A tensor from its typed contents.

    Raises:
        TensorError: they are in another field than the datatype's, or do not fit.
    """
    field = typed_field(given.name, given.datatype)
    if strays := [other.name for other, _ in given.contents.ListFields() if other.name != field]:
        raise TensorError(given.name, f"{given.datatype} travels in `{field}`, and `{strays[0]}` was sent")
    return decode_typed(given.name, given.datatype, given.shape, getattr(given.contents, field))
