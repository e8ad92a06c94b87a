"""The rest of the Open Inference Protocol's REST side: models' configuration and figures, repository, shared memory.

Each request becomes the message that gRPC takes; what is refused there is refused here.
"""

from __future__ import annotations

from typing import Any

from google.api import httpbody_pb2
from google.protobuf import empty_pb2
from inference import grpc_service_pb2 as oip
from tiation.engine.v1 import inference_rest_pb2 as pb
from tiation.engine.v1 import inference_rest_pb2_grpc

from engine.errors import BodyError
from engine.oip.wishes import ControlWish, IndexWish, RegionWish, read_wish
from engine.servicers.inference import InferenceServicer
from engine.servicers.plain import plain
from engine.servicers.rest_bodies import shown, shown_json, unpacked
from mesh.call import Context

__all__ = ["RestControl"]


class RestControl(inference_rest_pb2_grpc.InferenceRestServiceServicer):
    """Answers REST requests that are no inferences.

    Args:
        inference: answers the same requests over gRPC.
    """

    def __init__(self, inference: InferenceServicer) -> None:
        self._inference = inference

    async def ModelConfig(self, request: pb.RestModelRequest, context: Context) -> httpbody_pb2.HttpBody:
        """How a model is configured."""
        asked = oip.ModelConfigRequest(name=request.model_name, version=request.model_version)
        return shown((await self._inference.ModelConfig(asked, context)).config)

    async def ModelStatistics(self, request: pb.RestModelRequest, context: Context) -> httpbody_pb2.HttpBody:
        """What was counted of a model."""
        asked = oip.ModelStatisticsRequest(name=request.model_name, version=request.model_version)
        return shown(await self._inference.ModelStatistics(asked, context))

    async def AllStatistics(self, _: empty_pb2.Empty, context: Context) -> httpbody_pb2.HttpBody:
        """What was counted of all models."""
        return shown(await self._inference.ModelStatistics(oip.ModelStatisticsRequest(), context))

    async def RepositoryIndex(self, request: pb.RestRequest, context: Context) -> httpbody_pb2.HttpBody:
        """The models that the caller may see."""
        ready = read_wish(unpacked(request.body, context), IndexWish).ready
        answer = await self._inference.RepositoryIndex(oip.RepositoryIndexRequest(ready=ready), context)
        return shown_json([plain(each) for each in answer.models])

    async def LoadModel(self, request: pb.RestControlRequest, context: Context) -> httpbody_pb2.HttpBody:
        """A model in memory."""
        parameters = _parameters(unpacked(request.body, context))
        asked = oip.RepositoryModelLoadRequest(model_name=request.model_name, parameters=parameters)
        return shown(await self._inference.RepositoryModelLoad(asked, context))

    async def UnloadModel(self, request: pb.RestControlRequest, context: Context) -> httpbody_pb2.HttpBody:
        """A model out of memory."""
        parameters = _parameters(unpacked(request.body, context))
        asked = oip.RepositoryModelUnloadRequest(model_name=request.model_name, parameters=parameters)
        return shown(await self._inference.RepositoryModelUnload(asked, context))

    async def SystemSharedMemoryStatus(self, request: pb.RestRegionRequest, context: Context) -> httpbody_pb2.HttpBody:
        """The regions of the caller's tenant."""
        asked = oip.SystemSharedMemoryStatusRequest(name=request.region)
        regions = (await self._inference.SystemSharedMemoryStatus(asked, context)).regions
        return shown_json([plain(regions[name]) for name in sorted(regions)])

    async def RegisterSystemSharedMemory(
        self, request: pb.RestRegionBodyRequest, context: Context
    ) -> httpbody_pb2.HttpBody:
        """A region more."""
        wish = read_wish(unpacked(request.body, context), RegionWish)
        asked = oip.SystemSharedMemoryRegisterRequest(
            name=request.region, key=wish.key, offset=wish.offset, byte_size=wish.byte_size
        )
        return shown(await self._inference.SystemSharedMemoryRegister(asked, context))

    async def UnregisterSystemSharedMemory(
        self, request: pb.RestRegionBodyRequest, context: Context
    ) -> httpbody_pb2.HttpBody:
        """A region less, or all."""
        asked = oip.SystemSharedMemoryUnregisterRequest(name=request.region)
        return shown(await self._inference.SystemSharedMemoryUnregister(asked, context))

    async def CudaSharedMemoryStatus(self, request: pb.RestRegionRequest, context: Context) -> httpbody_pb2.HttpBody:
        """No regions."""
        asked = oip.CudaSharedMemoryStatusRequest(name=request.region)
        regions = (await self._inference.CudaSharedMemoryStatus(asked, context)).regions
        return shown_json([plain(regions[name]) for name in sorted(regions)])

    async def RegisterCudaSharedMemory(
        self, request: pb.RestRegionBodyRequest, context: Context
    ) -> httpbody_pb2.HttpBody:
        """Never."""
        asked = oip.CudaSharedMemoryRegisterRequest(name=request.region)
        return shown(await self._inference.CudaSharedMemoryRegister(asked, context))

    async def UnregisterCudaSharedMemory(
        self, request: pb.RestRegionBodyRequest, context: Context
    ) -> httpbody_pb2.HttpBody:
        """Nothing to forget."""
        asked = oip.CudaSharedMemoryUnregisterRequest(name=request.region)
        return shown(await self._inference.CudaSharedMemoryUnregister(asked, context))

    async def TraceSettings(self, request: pb.RestModelRequest, context: Context) -> httpbody_pb2.HttpBody:
        """How requests are traced."""
        answer = await self._inference.TraceSetting(oip.TraceSettingRequest(model_name=request.model_name), context)
        return shown_json({name: _traced(name, list(said.value)) for name, said in answer.settings.items()})

    async def ChangeTraceSettings(self, request: pb.RestControlRequest, context: Context) -> httpbody_pb2.HttpBody:
        """Refused, but for a change of nothing."""
        names = read_wish(unpacked(request.body, context), dict)
        settings = {name: oip.TraceSettingRequest.SettingValue() for name in names}
        await self._inference.TraceSetting(oip.TraceSettingRequest(settings=settings), context)
        return await self.TraceSettings(pb.RestModelRequest(model_name=request.model_name), context)

    async def LogSettings(self, _: empty_pb2.Empty, context: Context) -> httpbody_pb2.HttpBody:
        """What is logged."""
        answer = await self._inference.LogSettings(oip.LogSettingsRequest(), context)
        said = {name: getattr(each, each.WhichOneof("parameter_choice")) for name, each in answer.settings.items()}
        return shown_json(said)

    async def ChangeLogSettings(self, request: pb.RestRequest, context: Context) -> httpbody_pb2.HttpBody:
        """Refused, but for a change of nothing."""
        names = read_wish(unpacked(request.body, context), dict)
        settings = {name: oip.LogSettingsRequest.SettingValue() for name in names}
        await self._inference.LogSettings(oip.LogSettingsRequest(settings=settings), context)
        return await self.LogSettings(empty_pb2.Empty(), context)


def _parameters(data: bytes) -> dict[str, oip.ModelRepositoryParameter]:
    """The parameters of a load or unload."""
    told: dict[str, oip.ModelRepositoryParameter] = {}
    for name, value in read_wish(data, ControlWish).parameters.items():
        match value:
            case bool():
                told[name] = oip.ModelRepositoryParameter(bool_param=value)
            case int() if -(2**63) <= value < 2**63:
                told[name] = oip.ModelRepositoryParameter(int64_param=value)
            case str():
                told[name] = oip.ModelRepositoryParameter(string_param=value)
            case _:
                raise BodyError(f"parameters.{name[:64]}: must be true, false, a text, or a whole number of 64 bits")
    return told


def _traced(name: str, values: list[str]) -> Any:  # noqa: ANN401 -- a text, or several
    """A trace setting as Triton shows it: levels are a list, all others one text."""
    return values if name == "trace_level" or len(values) != 1 else values[0]
