"""The calls of a run over the mesh: on the requester's behalf, tried again while the callee cannot be reached."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf import json_format
from inference import grpc_service_pb2, grpc_service_pb2_grpc
from tiation.engine.v1 import decision_pb2, decision_pb2_grpc
from tiation.integration.v1 import connection_pb2, connection_pb2_grpc

from mesh.channel import Channels
from mesh.errors import InvalidError
from mesh.identity import Requester
from mesh.resource import parent_of
from mesh.status import remote_error
from orchestrator.adapters.tensors import from_raw, to_tensor
from orchestrator.runs import Run

__all__ = ["GrpcCalls"]

_TRIES_S = 60.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0
_CALL_S = 60.0
_PASSING = frozenset({"UNAVAILABLE", "POLICY_STALE", "MODEL_NOT_READY", "SANDBOX_UNAVAILABLE"})
"""Why a callee is away for a moment; a system that integration cannot reach was asked often enough there."""


class GrpcCalls:
    """The services as one run's requester reaches them.

    Args:
        channels: to the other services.
        run: for whom.
    """

    def __init__(self, channels: Channels, run: Run) -> None:
        self._channels = channels
        asked = run.requester
        self._requester = Requester(asked.tenant, asked.subject, parent_of(run.name), run.name, asked.role)

    async def call(self, kind: str, arguments: Any, effect_key: str) -> Any:  # noqa: ANN401 -- any JSON
        """Call `infer`, `decide` or `connect`."""
        match kind:
            case "infer":
                return await self._infer(arguments)
            case "decide":
                return await self._decide(arguments)
            case _:
                return await self._connect(arguments, effect_key)

    async def _infer(self, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 -- any JSON
        inputs = arguments["inputs"]
        if not isinstance(inputs, dict) or not inputs:
            raise InvalidError("inputs", "must hold the model's inputs by name")
        request = grpc_service_pb2.ModelInferRequest(
            model_name=str(arguments["model"]), model_version=str(arguments.get("version", ""))
        )
        for name, value in inputs.items():
            tensor = to_tensor(name, value)
            request.inputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
            request.raw_input_contents.append(tensor.raw)

        async def ask(metadata: Any) -> Any:  # noqa: ANN401 -- the stub's own
            stub = self._channels.stub(grpc_service_pb2_grpc.GRPCInferenceServiceStub, "engine")
            return await stub.ModelInfer(request, metadata=metadata, timeout=_CALL_S)

        answer = await self._persist("engine", ask)
        return {
            output.name: from_raw(output.datatype, tuple(output.shape), raw)
            for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
        }

    async def _decide(self, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 -- any JSON
        request = decision_pb2.DecideRequest(
            name=self._name("decisions", arguments["decision"]), version=int(arguments.get("version", 0))
        )
        json_format.ParseDict(arguments.get("input") or {}, request.input)

        async def ask(metadata: Any) -> Any:  # noqa: ANN401 -- the stub's own
            stub = self._channels.stub(decision_pb2_grpc.DecisionServiceStub, "engine")
            return await stub.Decide(request, metadata=metadata, timeout=_CALL_S)

        return json_format.MessageToDict((await self._persist("engine", ask)).result)

    async def _connect(self, arguments: dict[str, Any], effect_key: str) -> Any:  # noqa: ANN401 -- any JSON
        request = connection_pb2.InvokeRequest(
            name=self._name("connections", arguments["connection"]),
            operation_id=str(arguments["operation"]),
            effect_key=effect_key,
        )
        given: Any = arguments.get("input")
        json_format.ParseDict(given, request.input)

        async def ask(metadata: Any) -> Any:  # noqa: ANN401 -- the stub's own
            stub = self._channels.stub(connection_pb2_grpc.ConnectionServiceStub, "integration")
            return await stub.Invoke(request, metadata=metadata, timeout=_CALL_S)

        return json_format.MessageToDict((await self._persist("integration", ask)).output)

    async def _persist(self, service: str, ask: Callable[[Any], Awaitable[Any]]) -> Any:  # noqa: ANN401 -- an answer
        """Ask until there is an answer, for a minute; only a callee that cannot be reached is asked again."""
        deadline = time.monotonic() + _TRIES_S
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await ask(self._channels.on_behalf(service, self._requester))
            except grpc.aio.AioRpcError as error:
                remote = remote_error(error)
                away = error.code() is grpc.StatusCode.UNAVAILABLE and remote.reason in _PASSING
                if not away or time.monotonic() + pause_s > deadline:
                    raise remote from None
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter is no secret
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _name(self, collection: str, name: object) -> str:
        """A full name; a bare one is of the run's own tenant."""
        text = str(name)
        return text if text.startswith("tenants/") else f"tenants/{self._requester.tenant}/{collection}/{text}"
