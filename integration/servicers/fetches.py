"""FetchService."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from tiation.integration.v1 import fetch_pb2 as pb
from tiation.integration.v1 import fetch_pb2_grpc

from integration.effects import EffectLog
from integration.errors import IntegrationError, OutcomeUnknownError
from integration.ports import Answer, Effect, Fetches, GrpcRequest, WebRequest
from mesh.call import Context
from mesh.json_value import json_to_value, value_to_json

__all__ = ["FetchServicer"]

_DEFAULT_S = 10.0
_LONGEST_S = 60.0
_FAILED = 400
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class _AnsweredError(IntegrationError):
    """A server has answered that it failed: the answer is given on, and none is kept for the effect's key."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__("the server has answered that it failed")
        self.answer = answer


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
            body=value_to_json(request.body, "body") if request.HasField("body") else None,
            has_body=request.HasField("body"),
            timeout_s=_timeout_s(request),
            effect_key=request.effect_key,
            follow_redirects=request.follow_redirects,
        )
        repeatable = asked.method in _REPEATABLE
        what = [asked.method, asked.uri, asked.query, asked.body]
        effect = _effect(request, what) if not repeatable and request.effect_key else None

        async def fetch() -> dict[str, Any]:
            fetched = await self._fetches.fetch(asked)
            headers = dict(fetched.headers)
            answer = {"status": fetched.status, "headers": headers, "body": fetched.body, "uri": fetched.uri}
            if fetched.status >= _FAILED:  # once the server is mended it is asked again, and told the same key
                raise _AnsweredError(answer)
            return answer

        try:
            answer = await self._once(effect, fetch, repeatable=repeatable)
        except _AnsweredError as failed:
            answer = failed.answer
        body = json_to_value(answer["body"], "body") if answer["body"] is not None else None
        return pb.FetchResponse(status=answer["status"], headers=answer["headers"], body=body, uri=answer["uri"])

    async def CallGrpc(self, request: pb.CallGrpcRequest, _: Context) -> pb.CallGrpcResponse:
        """One unary gRPC call."""
        asked = GrpcRequest(
            target=request.target,
            plaintext=request.plaintext,
            service=request.service,
            method=request.method,
            arguments=value_to_json(request.arguments, "arguments"),
            metadata=dict(request.metadata),
            timeout_s=_timeout_s(request),
        )
        what = [asked.target, asked.service, asked.method, asked.arguments]
        effect = _effect(request, what) if request.effect_key else None
        result = await self._once(effect, lambda: self._fetches.call_grpc(asked), repeatable=effect is None)
        return pb.CallGrpcResponse(result=json_to_value(result, "result"))

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
