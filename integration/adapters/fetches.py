"""Single HTTP requests and gRPC calls to systems that have no connection, through the same guard."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import msgspec

from integration.adapters.client_spans import Spans, client_span, send_traced
from integration.adapters.grpc_client import GrpcClient
from integration.adapters.http_answer import body_of, retry_after
from integration.adapters.http_client import HttpClient, HttpRequest
from integration.errors import RateLimitedError
from integration.ports import Fetched, GrpcRequest, WebRequest
from integration.strict import whole_numbers

__all__ = ["OutsideFetches"]

_REDIRECTS = 5
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Methods that may be repeated, says RFC 9110, 9.2.2."""
_SECRET = frozenset({"authorization", "cookie", "x-api-key"})


class OutsideFetches:
    """Fetches over the guarded network.

    Args:
        http: sends HTTP requests.
        grpc: makes gRPC calls.
        max_bytes: the most that an answer may hold.
        spans: sends spans of requests.
    """

    def __init__(self, http: HttpClient, grpc: GrpcClient, max_bytes: int, spans: Spans = None) -> None:
        self._http = http
        self._grpc = grpc
        self._max_bytes = max_bytes
        self._spans = spans

    async def fetch(self, request: WebRequest) -> Fetched:
        """Send one HTTP request; a server that says when to come back is an error that says so too."""
        headers = {name.lower(): text for name, text in request.headers.items()}
        body: bytes | None = None
        if request.has_body:
            kind = headers.setdefault("content-type", "application/json")
            given = whole_numbers(request.body)
            body = given.encode() if isinstance(given, str) and "json" not in kind else msgspec.json.encode(given)
        if request.effect_key and request.method not in ("GET", "HEAD", "OPTIONS"):
            headers.setdefault("idempotency-key", request.effect_key)
        answer = await send_traced(
            self._http,
            HttpRequest(
                request.method,
                _with_query(request),
                headers,
                body,
                timeout_s=request.timeout_s,
                max_bytes=self._max_bytes,
                redirects=_REDIRECTS if request.follow_redirects else 0,
                confidential=bool(_SECRET & headers.keys()),
                repeatable=request.method in _REPEATABLE,
            ),
            "",
            tell=False,
            spans=self._spans,
        )
        wait_s = retry_after(answer.headers) if "retry-after" in answer.headers else None
        if answer.status in (429, 503) and wait_s is not None:
            raise RateLimitedError(
                f"the server answers {answer.status} and takes requests again in {wait_s:.0f} s",
                retry_after_s=wait_s,
                status=answer.status,
            )
        return Fetched(answer.status, answer.headers, body_of(answer), answer.uri)

    async def call_grpc(self, request: GrpcRequest) -> Any:  # noqa: ANN401 -- any JSON
        """Make one unary gRPC call."""
        with client_span(f"{request.service}/{request.method}", self._spans) as (_, known):
            known.update(
                {
                    "rpc.system": "grpc",
                    "rpc.service": request.service,
                    "rpc.method": request.method,
                    "server.address": request.target,
                }
            )
            return await self._grpc.call(request)


def _with_query(request: WebRequest) -> str:
    uri, _, fragment = request.uri.partition("#")
    del fragment  # it is the reader's, never sent
    added = urlencode(sorted(request.query.items()))
    return uri + (("&" if "?" in uri else "?") + added if added else "")
