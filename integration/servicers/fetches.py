"""FetchService."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from google.protobuf import json_format
from tiation.integration.v1 import fetch_pb2 as pb
from tiation.integration.v1 import fetch_pb2_grpc

from integration.effects import EffectLog
from integration.errors import IntegrationError, OutcomeUnknownError
from integration.ports import Answer, Effect, Fetches, GrpcRequest, WebRequest
from mesh.call import Context

__all__ = ["FetchServicer"]

_DEFAULT_S = 10.0
_LONGEST_S = 60.0
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class FetchServicer(fetch_pb2_grpc.FetchServiceServicer):
    """Calls systems that have no connection.

    Args:
        fetches: does it.
        effects: remembers what must not happen twice.
    """

    def __init__(self, fetches: Fetches, effects: EffectLog) -> None:
        self._fetches = fetches
        self._effects = effects

    async def Fetch(self, request: pb.FetchRequest, _: Context) -> pb.FetchResponse:
        """One HTTP request."""
        asked = WebRequest(
            method=request.method.upper(),
            uri=request.uri,
            headers=dict(request.headers),
            query=dict(request.query),
            body=json_format.MessageToDict(request.body) if request.HasField("body") else None,
            has_body=request.HasField("body"),
            timeout_s=_timeout_s(request),
            effect_key=request.effect_key,
            follow_redirects=request.follow_redirects,
        )

        async def fetch() -> dict[str, Any]:
            fetched = await self._fetches.fetch(asked)
            return {
                "status": fetched.status,
                "headers": dict(fetched.headers),
                "body": fetched.body,
                "uri": fetched.uri,
            }

        repeatable = asked.method in _REPEATABLE
        what = [asked.method, asked.uri, asked.query, asked.body]
        effect = _effect(request, what) if not repeatable and request.effect_key else None
        answer = await self._once(effect, fetch, repeatable=repeatable)
        if answer["body"] is None:
            del answer["body"]
        return json_format.ParseDict(answer, pb.FetchResponse())

    async def CallGrpc(self, request: pb.CallGrpcRequest, _: Context) -> pb.CallGrpcResponse:
        """One unary gRPC call."""
        asked = GrpcRequest(
            target=request.target,
            plaintext=request.plaintext,
            service=request.service,
            method=request.method,
            arguments=json_format.MessageToDict(request.arguments),
            metadata=dict(request.metadata),
            timeout_s=_timeout_s(request),
        )
        what = [asked.target, asked.service, asked.method, asked.arguments]
        effect = _effect(request, what) if request.effect_key else None
        result = await self._once(effect, lambda: self._fetches.call_grpc(asked), repeatable=effect is None)
        return json_format.ParseDict({"result": result}, pb.CallGrpcResponse())

    async def _once(self, effect: Effect | None, ask: Callable[[], Awaitable[Any]], *, repeatable: bool) -> Any:  # noqa: ANN401
        """Ask, but not a second time for what may have happened."""

        async def asked() -> Answer:
            try:
                return Answer(await ask())
            except IntegrationError as error:
                if error.outcome_known or repeatable:
                    raise
                raise OutcomeUnknownError(
                    f"this may have happened and is not tried again: {error.message}", cause=error.reason
                ) from None

        if effect is None:
            return (await asked()).output
        return (await self._effects.once(effect, asked, repeatable=False)).output


def _timeout_s(request: Any) -> float:  # noqa: ANN401 -- any request with a timeout
    given = request.timeout.ToTimedelta().total_seconds() if request.HasField("timeout") else _DEFAULT_S
    return min(float(given), _LONGEST_S) if given > 0 else _DEFAULT_S


def _effect(request: Any, what: list[Any]) -> Effect:  # noqa: ANN401 -- any request with a parent and an effect key
    digest = hashlib.sha256(msgspec.json.encode(what, order="deterministic")).hexdigest()
    return Effect(f"{request.parent}/fetches|{request.effect_key}", digest)
