"""The span of a request to another system, and whether that system is told of the trace."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeAlias

import httpx

from integration.adapters.http_client import HttpAnswer, HttpClient, HttpRequest
from integration.errors import IntegrationError
from mesh.tracing import TRACE_HEADER, Span, TraceContext, current_trace

__all__ = ["Spans", "client_span", "send_traced"]

Spans: TypeAlias = Callable[[Span], None] | None
"""Sends spans; None where there is no collector."""


@contextmanager
def client_span(name: str, spans: Spans) -> Iterator[tuple[TraceContext | None, dict[str, Any]]]:
    """Whatever happens inside leaves a span, where the trace is sampled.

    Args:
        name: the span's, few different ones.
        spans: sends it.

    Yields:
        Where in the trace the block is, None outside any trace; and the span's attributes, for the block to add to.
        What went wrong without an exception is said there as `error.type`.
    """
    trace, known = current_trace.get(), dict[str, Any]()
    if trace is None or not trace.sampled or spans is None:
        yield trace, known
        return
    below = trace.below(secrets.token_hex(8))
    begun_ns = time.time_ns()
    try:
        yield below, known
    except BaseException as failed:  # a cancelled request leaves its span too
        known["error.type"] = failed.reason if isinstance(failed, IntegrationError) else "CANCELLED"
        raise
    finally:
        spans(Span(name, "client", below, trace.span_id, begun_ns, time.time_ns(), known, known.get("error.type", "")))


async def send_traced(
    client: HttpClient, request: HttpRequest, connection: str, *, tell: bool, spans: Spans
) -> HttpAnswer:
    """Send a request; it leaves a span where the trace is sampled.

    Args:
        client: sends it.
        request: what to send.
        connection: on whose behalf; empty for a request that no connection makes.
        tell: whether the other system gets a `traceparent`; it is nobody's business otherwise.
        spans: sends spans.
    """
    with client_span(request.method, spans) as (trace, known):
        if tell and trace is not None:
            request = replace(request, headers={**request.headers, TRACE_HEADER: trace.header()})
        if trace is not None and trace.sampled:
            known.update(_target(request, connection))
        answer = await client.send(request)
        known["http.response.status_code"] = answer.status
        if answer.status >= 400:
            known["error.type"] = str(answer.status)
    return answer


def _target(request: HttpRequest, connection: str) -> dict[str, Any]:
    known: dict[str, Any] = {"http.request.method": request.method}
    if connection:
        known["tiation.connection"] = connection
    with suppress(httpx.InvalidURL):  # whoever sends it says so
        url = httpx.URL(request.uri)
        known |= {"url.scheme": url.scheme, "server.address": url.host}
    return known
