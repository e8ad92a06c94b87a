"""The Open Inference Protocol v2, over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from importlib.metadata import version as version_of

from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc

from engine.errors import ModelNotFoundError, TensorError, VersionNotFoundError
from engine.repository import Loaded, Repository
from engine.servicers.usage import note_predicted
from engine.tensor import Tensor, datatype_of, decode_raw, decode_typed, encode_raw, typed_field
from mesh.call import Context
from mesh.errors import TiationError
from mesh.identity import SYSTEM_TENANT, current_caller

__all__ = ["InferenceServicer"]

_STREAM_AHEAD = 64
"""Requests of one stream that are worked on at once; answers keep their order."""


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
        loaded = await self._found(request.model_name, request.model_version)
        with loaded.figures.request():
            found = await loaded.servable.infer(_inputs(request), owner=current_caller().tenant)
            answer = _answer(request, loaded, found.outputs)
        note_predicted(found.rows, found.tokens)
        return answer

    async def _found(self, name: str, version: str) -> Loaded:
        return await self._repository.found(current_caller().tenant or SYSTEM_TENANT, name, version)


def _inputs(request: pb.ModelInferRequest) -> dict[str, Tensor]:
    """The request's tensors.

    Raises:
        TensorError: naming the tensor that is wrong.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise TensorError("", f"{len(request.inputs)} inputs, but {len(raw)} raw contents; send one for each")
    tensors: dict[str, Tensor] = {}
    for at, given in enumerate(request.inputs):
        if given.name in tensors:
            raise TensorError(given.name, "is there twice")
        if raw:
            if given.HasField("contents"):
                raise TensorError(given.name, "has both raw and typed contents; send one of them")
            tensors[given.name] = decode_raw(given.name, given.datatype, given.shape, raw[at])
        else:
            field = typed_field(given.name, given.datatype)
            if strays := [other.name for other, _ in given.contents.ListFields() if other.name != field]:
                raise TensorError(given.name, f"{given.datatype} travels in `{field}`, and `{strays[0]}` was sent")
            values = getattr(given.contents, field)
            tensors[given.name] = decode_typed(given.name, given.datatype, given.shape, values)
    return tensors


def _answer(request: pb.ModelInferRequest, loaded: Loaded, outputs: Mapping[str, Tensor]) -> pb.ModelInferResponse:
    """The asked outputs, in raw contents: some clients read nothing else."""
    names = [wanted.name for wanted in request.outputs] or list(outputs)
    answer = pb.ModelInferResponse(model_name=request.model_name, model_version=str(loaded.version), id=request.id)
    for name in names:
        if name not in outputs:
            raise TensorError(name, f"the model has no such output; it gives {', '.join(outputs)}")
        answer.outputs.add(name=name, datatype=datatype_of(outputs[name]), shape=outputs[name].shape)
        answer.raw_output_contents.append(encode_raw(outputs[name]))
    return answer
