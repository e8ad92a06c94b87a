"""The Open Inference Protocol v2 with Triton's extensions, over gRPC."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from functools import partial
from importlib.metadata import version as version_of
from typing import Any

from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc

from engine.errors import (
    AsideError,
    ModelNotFoundError,
    ModelNotReadyError,
    NotServedError,
    RegionNotFoundError,
    VersionNotFoundError,
)
from engine.figures import RequestTimes
from engine.oip.control import RepositoryControl
from engine.oip.shared_memory import Region, Regions
from engine.parameters import Parameter, key_of, terms_of, wants_timing
from engine.repository.loaded import Loaded
from engine.repository.repository import Repository
from engine.scheduler.aside import aside
from engine.scheduler.terms import Terms
from engine.servables import TextGenerator
from engine.servicers.inference_config import config_of, platform_of
from engine.servicers.inference_facts import Facts, statistics_of
from engine.servicers.inference_messages import (
    given_inputs,
    heard,
    held,
    note_timing,
    read_inputs,
    size_of,
    wanted_outputs,
    write,
)
from engine.servicers.inference_stream import Tell, answers_of
from engine.servicers.inference_texts import TellPart, specs_of, written
from engine.servicers.turns import Turns
from engine.servicers.usage import note_predicted
from mesh.call import Context, note_resource
from mesh.errors import InvalidError, TiationError
from mesh.identity import SYSTEM_TENANT, current_caller

__all__ = ["InferenceServicer"]

_EXTENSIONS = (
    "binary_tensor_data", "classification", "model_repository", "model_configuration", "parameters",
    "schedule_policy", "sequence", "statistics",
)  # fmt: skip
_GRPC_ERROR = "triton_grpc_error"
"""The header with which a client asks for streams that end with the first error's status."""
_FINAL = "triton_final_response"


class InferenceServicer(grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers inference requests.

    Args:
        repository: knows the models in memory.
        control: lists, loads and unloads them.
        regions: of shared memory.
        facts: what the operator has set.
    """

    def __init__(self, repository: Repository, control: RepositoryControl, regions: Regions, facts: Facts) -> None:
        self._repository = repository
        self._control = control
        self._regions = regions
        self._facts = facts

    async def ServerLive(self, _: pb.ServerLiveRequest, __: Context) -> pb.ServerLiveResponse:
        """The engine lives."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, _: pb.ServerReadyRequest, __: Context) -> pb.ServerReadyResponse:
        """Every model that shall be in memory was tried; one that cannot be loaded does not keep the others waiting."""
        return pb.ServerReadyResponse(ready=self._repository.ready)

    async def ServerMetadata(self, _: pb.ServerMetadataRequest, __: Context) -> pb.ServerMetadataResponse:
        """What this is, and what of Triton's extensions it serves."""
        shared = ("system_shared_memory",) if self._regions.is_on else ()
        return pb.ServerMetadataResponse(
            name="tiation", version=version_of("tiation"), extensions=(*_EXTENSIONS, *shared)
        )

    async def ModelReady(self, request: pb.ModelReadyRequest, _: Context) -> pb.ModelReadyResponse:
        """Whether a model answers requests."""
        try:
            note_resource(self._repository.find(_tenant(), request.name, request.version).name)
        except AsideError:  # it is brought back when it is asked
            return pb.ModelReadyResponse(ready=True)
        except (ModelNotFoundError, ModelNotReadyError, VersionNotFoundError):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, _: Context) -> pb.ModelMetadataResponse:
        """What a model takes and gives."""
        loaded = await self._found(request.name, request.version)
        answer = pb.ModelMetadataResponse(
            name=request.name,
            versions=[str(number) for number in self._repository.versions_of(loaded.model)],
            platform=platform_of(loaded.servable),
        )
        for spec in specs_of(loaded.servable):
            answer.inputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        for spec in loaded.servable.outputs:
            answer.outputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        return answer

    async def ModelInfer(self, request: pb.ModelInferRequest, _: Context) -> pb.ModelInferResponse:
        """One inference, with one answer: a text comes whole."""
        return await self.infer(request)

    async def ModelStreamInfer(
        self, requests: AsyncIterator[pb.ModelInferRequest], context: Context
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Inferences in a stream; texts come part by part.

        An error answers its own request and leaves the stream open, unless asked not to.
        """
        ends = ("true", "True", "1")
        closes = any(key == _GRPC_ERROR and value in ends for key, value in context.invocation_metadata() or ())
        async with aclosing(self.stream(requests, closes=closes)) as answers:
            async for answer in answers:
                yield answer

    async def stream(
        self, requests: AsyncIterator[pb.ModelInferRequest], *, closes: bool
    ) -> AsyncGenerator[pb.ModelStreamInferResponse]:
        """The answers to a stream of requests; `closes` where the first error ends it."""
        turns = Turns()

        def work(request: pb.ModelInferRequest, tell: Tell) -> Awaitable[pb.ModelStreamInferResponse]:
            return turns.take(_sequence_of(request), partial(self._streamed, request, tell, closes=closes))

        async with aclosing(answers_of(requests, work)) as answers:
            async for answer in answers:
                yield answer

    async def ModelConfig(self, request: pb.ModelConfigRequest, _: Context) -> pb.ModelConfigResponse:
        """How a model is configured."""
        loaded = await self._found(request.name, request.version)
        policy = await self._control.version_policy(loaded.model)
        return pb.ModelConfigResponse(config=config_of(request.name, loaded, policy, self._facts.device))

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, _: Context) -> pb.ModelStatisticsResponse:
        """What was counted of a version, of all versions of a model, or of all models."""
        found = self._control.in_memory(_tenant())
        if request.name:
            asked = await self._found(request.name, request.version)
            found = [
                (request.name, loaded)
                for _, loaded in found
                if loaded.model == asked.model and (not request.version or loaded.version == asked.version)
            ]
        elif request.version:
            raise InvalidError("version", "needs `name` beside it")
        return pb.ModelStatisticsResponse(model_stats=[statistics_of(name, loaded) for name, loaded in found])

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, _: Context) -> pb.RepositoryIndexResponse:
        """The models that the caller may see."""
        _check_repository(request.repository_name)
        answer = pb.RepositoryIndexResponse()
        for each in await self._control.index(_tenant(), ready=request.ready):
            answer.models.add(name=each.name, version=str(each.version), state=each.state, reason=each.reason)
        return answer

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, _: Context
    ) -> pb.RepositoryModelLoadResponse:
        """A model in memory."""
        _check_repository(request.repository_name)
        await self._control.load(_tenant(), request.model_name, _told(request.parameters))
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, _: Context
    ) -> pb.RepositoryModelUnloadResponse:
        """A model out of memory."""
        _check_repository(request.repository_name)
        await self._control.unload(_tenant(), request.model_name, _told(request.parameters))
        return pb.RepositoryModelUnloadResponse()

    async def SystemSharedMemoryStatus(
        self, request: pb.SystemSharedMemoryStatusRequest, _: Context
    ) -> pb.SystemSharedMemoryStatusResponse:
        """The regions of the caller's tenant."""
        answer = pb.SystemSharedMemoryStatusResponse()
        for region in self._regions.status(_tenant(), request.name):
            shown = answer.regions[region.name]
            shown.name, shown.key, shown.offset, shown.byte_size = (
                region.name,
                region.key,
                region.offset,
                region.byte_size,
            )
        return answer

    async def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest, _: Context
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """A region more."""
        region = Region(request.name, request.key, request.offset, request.byte_size)
        self._regions.register(_tenant(), region)
        return pb.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, _: Context
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """A region less, or all."""
        self._regions.unregister(_tenant(), request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(
        self, request: pb.CudaSharedMemoryStatusRequest, _: Context
    ) -> pb.CudaSharedMemoryStatusResponse:
        """No regions: none can be registered."""
        if request.name:
            raise RegionNotFoundError(f"CUDA shared memory region {request.name[:128]!r} is not registered")
        return pb.CudaSharedMemoryStatusResponse()

    async def CudaSharedMemoryRegister(
        self, _: pb.CudaSharedMemoryRegisterRequest, __: Context
    ) -> pb.CudaSharedMemoryRegisterResponse:
        """Never."""
        raise NotServedError(
            "CUDA shared memory is not served; use system shared memory, or send tensors in the request"
        )

    async def CudaSharedMemoryUnregister(
        self, _: pb.CudaSharedMemoryUnregisterRequest, __: Context
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        """Nothing to forget."""
        return pb.CudaSharedMemoryUnregisterResponse()

    async def TraceSetting(self, request: pb.TraceSettingRequest, _: Context) -> pb.TraceSettingResponse:
        """How requests are traced."""
        if request.settings:
            raise NotServedError(
                f"settings[{min(request.settings)[:64]}]: how requests are traced is the operator's to set: "
                "tracing.endpoint and tracing.sample_ratio"
            )
        return self._facts.trace_settings()

    async def LogSettings(self, request: pb.LogSettingsRequest, _: Context) -> pb.LogSettingsResponse:
        """What is logged."""
        if request.settings:
            raise NotServedError(
                f"settings[{min(request.settings)[:64]}]: what is logged is the operator's to set: log_level"
            )
        return self._facts.log_settings()

    async def _streamed(
        self, request: pb.ModelInferRequest, tell: Tell, *, closes: bool
    ) -> pb.ModelStreamInferResponse:
        """The last answer to a request of a stream; others are told before it."""

        async def part(answer: pb.ModelInferResponse) -> None:
            answer.parameters[_FINAL].bool_param = False
            await tell(pb.ModelStreamInferResponse(infer_response=answer))

        try:
            answer = pb.ModelStreamInferResponse(infer_response=await self.infer(request, part))
        except TiationError as error:
            if closes:
                raise
            failed = pb.ModelInferResponse(id=request.id, model_name=request.model_name)
            answer = pb.ModelStreamInferResponse(error_message=error.message, infer_response=failed)
        answer.infer_response.parameters[_FINAL].bool_param = True
        return answer

    async def infer(self, request: pb.ModelInferRequest, tell: TellPart | None = None) -> pb.ModelInferResponse:
        """The answer to a request, or the last one after all others were told.

        Args:
            request: names the model.
            tell: takes the answers before the last; None where there may be only one.
        """
        parameters = heard(request.parameters)
        terms, key = terms_of(current_caller().tenant, parameters), key_of(parameters) if parameters else ""
        loaded = await self._found(request.model_name, request.model_version, key, terms)
        with loaded.figures.request() as times:
            answer = await self._answer(request, loaded, terms, times, tell)
            if parameters and wants_timing(parameters):
                note_timing(answer, times)
            return answer

    async def _answer(
        self,
        request: pb.ModelInferRequest,
        loaded: Loaded,
        terms: Terms,
        times: RequestTimes,
        tell: TellPart | None,
    ) -> pb.ModelInferResponse:
        began, servable = time.perf_counter(), loaded.servable
        wanted, given = wanted_outputs(request, servable.outputs), given_inputs(request)
        with held(self._regions, terms.owner or SYSTEM_TENANT, given, wanted) as regions:
            tensors = await aside(given.size, read_inputs, given, specs_of(servable), regions)
            times.input_s += time.perf_counter() - began
            if isinstance(servable, TextGenerator):
                make = partial(write, request, loaded, wanted=wanted, regions=regions)
                parts = None if any(each.place for each in wanted) else tell  # one place has room for one answer
                return await written(loaded, tensors, heard(request.parameters), terms, times, make, parts)
            found = await loaded.infer(tensors, terms)
            began = time.perf_counter()
            size = size_of(found.outputs, wanted)
            answer = await aside(size, write, request, loaded, found.outputs, wanted, regions)
            times.output_s += time.perf_counter() - began
        note_predicted(found.rows, found.tokens)
        return answer

    async def _found(self, name: str, version: str, key: str = "", terms: Terms | None = None) -> Loaded:
        tenant = _tenant() if terms is None else terms.owner or SYSTEM_TENANT
        if terms is None or terms.sequence is None:
            loaded = await self._repository.found(tenant, name, version, key)
        else:
            loaded = await self._repository.found_for(tenant, name, version, terms, key)
        note_resource(loaded.name)
        return loaded


def _sequence_of(request: pb.ModelInferRequest) -> str:
    """The model and the sequence that a request is a step of; empty where it is of none."""
    if "sequence_id" not in request.parameters:
        return ""
    sequence = key_of({"sequence_id": heard(request.parameters).get("sequence_id", "")})
    return sequence and f"{request.model_name} {sequence}"


def _tenant() -> str:
    """Whose models are meant by bare names."""
    return current_caller().tenant or SYSTEM_TENANT


def _check_repository(name: str) -> None:
    if name:
        raise InvalidError("repository_name", "must be empty: there is one repository, and it has no name")


def _told(parameters: Any) -> dict[str, Parameter | bytes]:  # noqa: ANN401 -- a map of ModelRepositoryParameter
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "string_param")
        for name, value in parameters.items()
    }
