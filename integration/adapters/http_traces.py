"""The span of a request to another system, and whether that system is told of the trace."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx

from integration.adapters.http_client import HttpAnswer, HttpClient, HttpRequest
from integration.errors import IntegrationError
from mesh.tracing import TRACE_HEADER, Span, current_trace

__all__ = ["send_traced"]


async def send_traced(
    client: HttpClient, request: HttpRequest, connection: str, *, tell: bool, spans: Callable[[Span], None] | None
) -> HttpAnswer:
    """Send a request; it leaves a span where the trace is sampled.

    Args:
        client: sends it.
        request: what to send.
        connection: on whose behalf.
        tell: whether the other system gets a `traceparent`; it is nobody's business otherwise.
        spans: sends spans; None where there is no collector.
    """
    trace = current_trace.get()
    if trace is None:
        return await client.send(request)
    seen = trace.sampled and spans is not None
    below = trace.below(secrets.token_hex(8)) if seen else trace
    if tell:
        request = replace(request, headers={**request.headers, TRACE_HEADER: below.header()})
    if not seen or spans is None:
        return await client.send(request)
    url = httpx.URL(request.uri)
    known: dict[str, Any] = {
        "http.request.method": request.method,
        "url.scheme": url.scheme,
        "server.address": url.host,
        "tiation.connection": connection,
    }
    begun_ns, error = time.time_ns(), "CANCELLED"
    try:
        answer = await client.send(request)
        known["http.response.status_code"] = answer.status
        error = str(answer.status) if answer.status >= 400 else ""
    except IntegrationError as failed:
        error = failed.reason
        raise
    finally:
        if error:
            known["error.type"] = error
        spans(Span(request.method, "client", below, trace.span_id, begun_ns, time.time_ns(), known, error))
    return answer
