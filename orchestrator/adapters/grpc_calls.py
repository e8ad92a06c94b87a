"""The calls of a run over the mesh: on the requester's behalf, tried again while the callee cannot be reached."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc.aio
from google.protobuf.message import Message
from inference import grpc_service_pb2, grpc_service_pb2_grpc
from tiation.engine.v1 import decision_pb2, decision_pb2_grpc
from tiation.integration.v1 import connection_pb2, connection_pb2_grpc, fetch_pb2_grpc

from mesh.channel import Channels
from mesh.errors import Code, InvalidError
from mesh.identity import Requester
from mesh.json_value import json_to_struct, json_to_value, value_to_json
from mesh.resource import parent_of
from mesh.status import RemoteError, remote_error
from orchestrator.adapters.fetch_calls import grpc_request, http_output, http_request
from orchestrator.adapters.tensors import from_raw, is_numeric, to_tensor
from orchestrator.conversion import bytes_of, converted
from orchestrator.errors import AnswerTooLargeError, CallDeferredError, OutcomeUnknownError, is_unheard
from orchestrator.runs import Run
from orchestrator.values import MAX_EVALUATED_BYTES, MESSAGE_GROWTH

__all__ = ["GrpcCalls", "ModelInputs"]

_TRIES_S = 60.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0
_CALL_S = 60.0
_FETCH_S = 70.0
"""Integration ends a fetch after 60 seconds and says so."""
_KEPT_MODELS = 256
_KEPT_S = 60.0
_PASSING = frozenset({"UNAVAILABLE", "POLICY_STALE", "MODEL_NOT_READY", "SANDBOX_UNAVAILABLE"})
"""Why a callee is away for a moment; a system that integration cannot reach was asked often enough there."""
_LASTING = frozenset({"STORAGE_FULL"})
"""What is exhausted and does not come back by itself."""
_LOST = frozenset({Code.CANCELLED, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNAVAILABLE, Code.UNKNOWN})
"""How gRPC ends a call that may have reached its callee, who says nothing any more."""
_LARGEST_ANSWER = MESSAGE_GROWTH * MAX_EVALUATED_BYTES
_ANSWERS = "integration.tiation.dev"
"""The domain of what integration answers itself."""


class ModelInputs:
    """What models take, remembered for a while: numbers in a flow do not say whether they are INT64 or FP32.

    Args:
        clock: monotonic, seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str, str], tuple[float, dict[str, str]]] = {}

    def get(self, key: tuple[str, str, str]) -> dict[str, str] | None:
        """Datatypes by input of a tenant's model and version; None where they must be asked for."""
        kept = self._known.get(key)
        return kept[1] if kept is not None and kept[0] > self._clock() else None

    def put(self, key: tuple[str, str, str], datatypes: dict[str, str]) -> None:
        """Remember them."""
        if len(self._known) >= _KEPT_MODELS:
            self._known.clear()
        self._known[key] = (self._clock() + _KEPT_S, datatypes)


class GrpcCalls:
    """The services as one run's requester reaches them.

    Args:
        channels: to the other services.
        run: for whom.
        models: what is remembered of models.
        tries_s: how long a callee that cannot be reached is asked again.
    """

    def __init__(self, channels: Channels, run: Run, models: ModelInputs, tries_s: float = _TRIES_S) -> None:
        self._channels = channels
        self._models = models
        self._tries_s = tries_s
        asked = run.requester
        self._requester = Requester(asked.tenant, asked.subject, parent_of(run.name), run.name, asked.role, asked.uid)

    async def call(self, kind: str, arguments: Any, effect_key: str) -> Any:  # noqa: ANN401 -- any JSON
        """Call `infer`, `decide`, `connect`, `http` or `grpc`."""
        match kind:
            case "infer":
                return await self._infer(arguments)
            case "decide":
                return await self._decide(arguments)
            case "http":
                return await self._http(arguments, effect_key)
            case "grpc":
                return await self._grpc(arguments, effect_key)
            case _:
                return await self._connect(arguments, effect_key)

    async def _infer(self, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 -- any JSON
        inputs = arguments["inputs"]
        if not isinstance(inputs, dict) or not inputs:
            raise InvalidError("inputs", "must hold the model's inputs by name")
        model, version = _text("model", arguments["model"]), str(arguments.get("version") or "")
        numeric = any(is_numeric(value) for value in inputs.values())
        datatypes = await self._datatypes(model, version) if numeric else {}
        request = grpc_service_pb2.ModelInferRequest(model_name=model, model_version=version)

        def fill() -> None:
            for name, value in inputs.items():
                tensor = to_tensor(name, value, datatypes.get(name, ""))
                request.inputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
                request.raw_input_contents.append(tensor.raw)

        await converted(bytes_of(inputs), fill)

        async def ask(metadata: Any) -> Any:  # noqa: ANN401 -- the stub's own
            stub = self._channels.stub(grpc_service_pb2_grpc.GRPCInferenceServiceStub, "engine")
            return await stub.ModelInfer(request, metadata=metadata, timeout=_CALL_S)

        answer = await self._persist("engine", ask)
        return await converted(
            _size(answer),
            lambda: {
                output.name: from_raw(output.datatype, tuple(output.shape), raw)
                for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
            },
        )

    async def _datatypes(self, model: str, version: str) -> dict[str, str]:
        """What a model takes, by input; nothing where the requester may not know, then the numbers' kind decides."""
        key = (self._requester.tenant, model, version)
        known = self._models.get(key)
        if known is not None:
            return known
        request = grpc_service_pb2.ModelMetadataRequest(name=model, version=version)

        async def ask(metadata: Any) -> Any:  # noqa: ANN401 -- the stub's own
            stub = self._channels.stub(grpc_service_pb2_grpc.GRPCInferenceServiceStub, "engine")
            return await stub.ModelMetadata(request, metadata=metadata, timeout=_CALL_S)

        try:
            answer = await self._persist("engine", ask)
        except RemoteError as error:
            if error.code is not Code.PERMISSION_DENIED:
                raise
            return {}
        datatypes = {each.name: each.datatype for each in answer.inputs}
        self._models.put(key, datatypes)
        return datatypes

    async def _decide(self, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 -- any JSON
        version = arguments.get("version") or 0
        if not isinstance(version, int) or isinstance(version, bool) or version < 0:
            raise InvalidError("version", "must be a whole number from 1; leave it out for the newest")
        given = arguments.get("input")
        if given is not None and not isinstance(given, dict):
            raise InvalidError("input", "must be an object, a decision's facts by name")
        request = decision_pb2.DecideRequest(name=self._name("decision", arguments["decision"]), version=version)
        facts = given or {}
        request.input.CopyFrom(await converted(bytes_of(facts), partial(json_to_struct, facts, "input")))

        async def ask(metadata: Any) -> Any:  # noqa: ANN401 -- the stub's own
            stub = self._channels.stub(decision_pb2_grpc.DecisionServiceStub, "engine")
            return await stub.Decide(request, metadata=metadata, timeout=_CALL_S)

        answer = await self._persist("engine", ask)
        return await converted(_size(answer), partial(value_to_json, answer.result, "result"))

    async def _connect(self, arguments: dict[str, Any], effect_key: str) -> Any:  # noqa: ANN401 -- any JSON
        request = connection_pb2.InvokeRequest(
            name=self._name("connection", arguments["connection"]),
            operation_id=_text("operation", arguments["operation"]),
            effect_key=effect_key,
        )
        given = arguments.get("input")
        request.input.CopyFrom(await converted(bytes_of(given), partial(json_to_value, given, "input")))

        async def ask(metadata: Any) -> Any:  # noqa: ANN401 -- the stub's own
            stub = self._channels.stub(connection_pb2_grpc.ConnectionServiceStub, "integration")
            return await stub.Invoke(request, metadata=metadata, timeout=_CALL_S)

        answer = await self._persist("integration", ask, effect=True)
        return await converted(_size(answer), partial(value_to_json, answer.output, "output"))

    async def _http(self, arguments: dict[str, Any], effect_key: str) -> Any:  # noqa: ANN401 -- any JSON
        parent = f"tenants/{self._requester.tenant}"
        request = await converted(bytes_of(arguments), partial(http_request, parent, arguments, effect_key))

        async def ask(metadata: Any) -> Any:  # noqa: ANN401 -- the stub's own
            stub = self._channels.stub(fetch_pb2_grpc.FetchServiceStub, "integration")
            return await stub.Fetch(request, metadata=metadata, timeout=_FETCH_S)

        answer = await self._persist("integration", ask, effect=bool(request.effect_key))
        return await converted(_size(answer), partial(http_output, arguments, request, answer))

    async def _grpc(self, arguments: dict[str, Any], effect_key: str) -> Any:  # noqa: ANN401 -- any JSON
        parent = f"tenants/{self._requester.tenant}"
        request = await converted(bytes_of(arguments), partial(grpc_request, parent, arguments, effect_key))

        async def ask(metadata: Any) -> Any:  # noqa: ANN401 -- the stub's own
            stub = self._channels.stub(fetch_pb2_grpc.FetchServiceStub, "integration")
            return await stub.CallGrpc(request, metadata=metadata, timeout=_FETCH_S)

        answer = await self._persist("integration", ask, effect=True)
        return await converted(_size(answer), partial(value_to_json, answer.result, "result"))

    async def _persist(self, service: str, ask: Callable[[Any], Awaitable[Any]], *, effect: bool = False) -> Any:  # noqa: ANN401 -- an answer
        """Ask until there is an answer, for a minute; only a callee that cannot be reached is asked again.

        Raises:
            CallDeferredError: the callee says when it takes calls again.
            OutcomeUnknownError: it was asked for an effect and never said what came of that.
            RemoteError: what it answered otherwise.
        """
        deadline = time.monotonic() + self._tries_s
        pause_s = _FIRST_PAUSE_S
        in_doubt = False
        while True:
            try:
                return await ask(self._channels.on_behalf(service, self._requester))
            except grpc.aio.AioRpcError as error:
                remote = remote_error(error)
                lost = effect and remote.domain != _ANSWERS and remote.code in _LOST
                in_doubt = in_doubt or lost
                limited = remote.code is Code.RESOURCE_EXHAUSTED and remote.reason not in _LASTING
                if limited and remote.retry_after_s is not None:
                    raise CallDeferredError(remote.message, remote.retry_after_s, in_doubt=in_doubt) from None
                away = error.code() is grpc.StatusCode.UNAVAILABLE and remote.reason in _PASSING
                if not away or time.monotonic() + pause_s > deadline:
                    unknown = lost or (in_doubt and is_unheard(remote))
                    raise (OutcomeUnknownError(remote.message) if unknown else remote) from None
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter is no secret
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _name(self, kind: str, value: object) -> str:
        """A full name; a bare one is of the run's own tenant."""
        name = _text(kind, value)
        return name if name.startswith("tenants/") else f"tenants/{self._requester.tenant}/{kind}s/{name}"


def _size(answer: Message) -> int:
    """Bytes of an answer.

    Raises:
        AnswerTooLargeError: so many that no step can take it, nor `output.as` make less of it.
    """
    size = answer.ByteSize()
    if size > _LARGEST_ANSWER:
        raise AnswerTooLargeError(f"the answer is {size} bytes; ask for less", size=size)
    return size


def _text(field: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidError(field, "must be a text, the name of what is called")
    return value
