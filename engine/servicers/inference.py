"""The Open Inference Protocol v2, over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.metadata import version as version_of

from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc

from engine.errors import ModelNotFoundError, TensorError, VersionNotFoundError
from engine.parameters import Parameter, key_of, terms_of
from engine.repository.repository import Loaded, Repository
from engine.scheduler.aside import aside
from engine.servicers.usage import note_predicted
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
from mesh.call import Context, note_resource
from mesh.errors import TiationError
from mesh.identity import SYSTEM_TENANT, current_caller

__all__ = ["InferenceServicer"]

_STREAM_AHEAD = 64
"""Requests of one stream that are worked on at once; answers keep their order."""
_MAX_INPUTS = 4096
_LENGTH_BYTES = 4
"""Before each element of BYTES."""
_KIB = 1024


class InferenceServicer(grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers inference requests.

    Args:
        repository: knows the models in memory.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def ServerLive(self, _: pb.ServerLiveRequest, __: Context) -> pb.ServerLiveResponse:
        """The engine lives."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, _: pb.ServerReadyRequest, __: Context) -> pb.ServerReadyResponse:
        """The engine answers requests."""
        return pb.ServerReadyResponse(ready=True)

    async def ServerMetadata(self, _: pb.ServerMetadataRequest, __: Context) -> pb.ServerMetadataResponse:
        """What this is."""
        return pb.ServerMetadataResponse(name="tiation", version=version_of("tiation"))

    async def ModelReady(self, request: pb.ModelReadyRequest, _: Context) -> pb.ModelReadyResponse:
        """Whether a model answers requests."""
        try:
            await self._found(request.name, request.version)
        except (ModelNotFoundError, VersionNotFoundError):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, _: Context) -> pb.ModelMetadataResponse:
        """What a model takes and gives."""
        loaded = await self._found(request.name, request.version)
        answer = pb.ModelMetadataResponse(
            name=request.name,
            versions=[str(number) for number in self._repository.versions_of(loaded.model)],
            platform=loaded.servable.platform,
        )
        for spec in loaded.servable.inputs:
            answer.inputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        for spec in loaded.servable.outputs:
            answer.outputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        return answer

    async def ModelInfer(self, request: pb.ModelInferRequest, _: Context) -> pb.ModelInferResponse:
        """One inference."""
        return await self._infer(request)

    async def ModelStreamInfer(
        self, requests: AsyncIterator[pb.ModelInferRequest], _: Context
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Inferences in a stream; an error answers its own request and leaves the stream open."""
        waiting: asyncio.Queue[asyncio.Task[pb.ModelStreamInferResponse] | None] = asyncio.Queue(_STREAM_AHEAD)

        async def take() -> None:
            try:
                async for request in requests:
                    await waiting.put(asyncio.ensure_future(self._streamed(request)))
            finally:
                await waiting.put(None)

        taking = asyncio.ensure_future(take())
        try:
            while (task := await waiting.get()) is not None:
                yield await task
            await taking
        finally:
            taking.cancel()
            while not waiting.empty():
                left = waiting.get_nowait()
                if left is not None:
                    left.cancel()

    async def _streamed(self, request: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
        try:
            return pb.ModelStreamInferResponse(infer_response=await self._infer(request))
        except TiationError as error:
            failed = pb.ModelInferResponse(id=request.id, model_name=request.model_name)
            return pb.ModelStreamInferResponse(error_message=error.message, infer_response=failed)

    async def _infer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        loaded = await self._found(request.model_name, request.model_version, key_of(_parameters(request.parameters)))
        with loaded.figures.request():
            terms = terms_of(current_caller().tenant, _parameters(request.parameters))
            _check_counts(request)
            names = _asked(request, loaded.servable.outputs)
            raw = list(request.raw_input_contents)
            tensors = await aside(_size(request, raw), _inputs, request, raw, loaded.servable.inputs)
            found = await loaded.infer(tensors, terms)
            outputs = {name: found.outputs[name] for name in names}
            answer = await aside(_size_of(outputs), _answer, request, loaded, outputs)
        note_predicted(found.rows, found.tokens)
        return answer

    async def _found(self, name: str, version: str, key: str = "") -> Loaded:
        loaded = await self._repository.found(current_caller().tenant or SYSTEM_TENANT, name, version, key)
        note_resource(loaded.name)
        return loaded


def _parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Parameter]:
    """Parameters as plain values; one that holds nothing is not there."""
    kinds = {name: parameter.WhichOneof("parameter_choice") for name, parameter in parameters.items()}
    return {name: getattr(parameters[name], kind) for name, kind in kinds.items() if kind is not None}


def _asked(request: pb.ModelInferRequest, specs: Sequence[TensorSpec]) -> list[str]:
    """The names of the outputs that are asked for.

    Raises:
        TensorError: the model has no such output, or it is asked for twice.
    """
    known = [spec.name for spec in specs]
    names: dict[str, None] = {}
    for wanted in request.outputs:
        if wanted.name not in known:
            raise TensorError(wanted.name, f"the model has no such output; it gives {', '.join(known)}")
        if wanted.name in names:
            raise TensorError(wanted.name, "is asked for twice")
        names[wanted.name] = None
    return list(names) or known


def _check_counts(request: pb.ModelInferRequest) -> None:
    """See that there are not more inputs than any model has, and contents for each.

    Raises:
        TensorError: there are more, or another number of contents.
    """
    count, raw = len(request.inputs), len(request.raw_input_contents)
    if count > _MAX_INPUTS:
        raise TensorError("", f"{count} inputs; at most {_MAX_INPUTS} are taken")
    if raw and raw != count:
        raise TensorError("", f"{count} inputs, but {raw} raw contents; send one for each")


def _size(request: pb.ModelInferRequest, raw: Sequence[bytes]) -> int:
    """How much there is to decode, as `aside` counts."""
    if not raw:
        return sum(len(values) for given in request.inputs for _, values in given.contents.ListFields())
    size = sum(map(len, raw))
    if size <= _KIB:
        return 0
    return sum(
        len(data) // (_LENGTH_BYTES if given.datatype == "BYTES" else _KIB)
        for given, data in zip(request.inputs, raw, strict=True)
    )


def _inputs(request: pb.ModelInferRequest, raw: Sequence[bytes], specs: Sequence[TensorSpec]) -> dict[str, Tensor]:
    """The request's tensors.

    Raises:
        TensorError: naming the tensor that is wrong.
    """
    known = {spec.name: spec for spec in specs}
    tensors: dict[str, Tensor] = {}
    for at, given in enumerate(request.inputs):
        if given.name in tensors:
            raise TensorError(given.name, "is there twice")
        if given.datatype == "BYTES":  # nothing is taken apart in vain
            if given.name not in known:
                raise TensorError(given.name, f"the model has no such input of BYTES; it takes {', '.join(known)}")
            check_described(known[given.name], given.datatype, given.shape)
        if raw:
            if given.HasField("contents"):
                raise TensorError(given.name, "has both raw and typed contents; send one of them")
            tensors[given.name] = decode_raw(given.name, given.datatype, given.shape, raw[at])
        else:
            tensors[given.name] = _typed(given)
    return tensors


def _typed(given: pb.ModelInferRequest.InferInputTensor) -> Tensor:
    """A tensor from its typed contents.

    Raises:
        TensorError: they are in another field than the datatype's, or do not fit.
    """
    field = typed_field(given.name, given.datatype)
    if strays := [other.name for other, _ in given.contents.ListFields() if other.name != field]:
        raise TensorError(given.name, f"{given.datatype} travels in `{field}`, and `{strays[0]}` was sent")
    return decode_typed(given.name, given.datatype, given.shape, getattr(given.contents, field))


def _size_of(outputs: Mapping[str, Tensor]) -> int:
    """How much there is to encode, as `aside` counts."""
    return sum(array.size if array.dtype == object else array.nbytes // _KIB for array in outputs.values())


def _answer(request: pb.ModelInferRequest, loaded: Loaded, outputs: Mapping[str, Tensor]) -> pb.ModelInferResponse:
    """The outputs in raw contents: some clients read nothing else."""
    answer = pb.ModelInferResponse(model_name=request.model_name, model_version=str(loaded.version), id=request.id)
    for name, array in outputs.items():
        answer.outputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        answer.raw_output_contents.append(encode_raw(array))
    return answer
