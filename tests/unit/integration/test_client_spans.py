"""What a request to another system leaves in a trace, and what that system is told of it."""

from __future__ import annotations

import pytest

from integration.adapters.egress import Guard
from integration.adapters.fetches import OutsideFetches
from integration.adapters.grpc_client import GrpcClient
from integration.adapters.http_client import HttpClient
from integration.errors import LocationForbiddenError, SystemRefusedError
from integration.ports import GrpcRequest, WebRequest
from mesh.tracing import TraceContext, current_trace, parse_traceparent
from tests.fakes.web import peer, reply

TRACE, ABOVE = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def spans(bench):
    made = []
    bench.connector._spans = made.append
    return made


async def asked(bench, config, *, sampled, status=200):
    """The headers of one request that was made inside a call of that trace."""
    async with peer(lambda _: reply({}, status)) as shop:
        entry = await bench.connect({"base_url": shop.url, **config}, get={"path": "/a/{id}"})
        current_trace.set(TraceContext(TRACE, ABOVE, sampled))
        if status < 400:
            await bench.invoke(entry, "get", {"id": "secret-id"})
        else:
            with pytest.raises(SystemRefusedError):
                await bench.invoke(entry, "get", {"id": "secret-id"})
        return shop.asked[0].headers


async def test_a_request_leaves_a_span_and_tells_the_other_system_nothing(bench, spans):
    headers = await asked(bench, {}, sampled=True)
    assert "traceparent" not in headers
    (span,) = spans
    assert (span.name, span.kind, span.parent, span.context.trace_id) == ("GET", "client", ABOVE, TRACE)
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["server.address"] in ("localhost", "127.0.0.1")
    assert "secret-id" not in str(span)


async def test_a_system_is_told_of_the_trace_where_the_manifest_says_so(bench, spans):
    headers = await asked(bench, {"trace": True}, sampled=True)
    told = parse_traceparent(headers["traceparent"])
    assert told == spans[0].context
    assert told.span_id != ABOVE


async def test_of_an_unsampled_trace_it_is_told_that_it_is_not_sampled_and_no_span_is_built(bench, spans):
    headers = await asked(bench, {"trace": True}, sampled=False)
    assert headers["traceparent"] == f"00-{TRACE}-{ABOVE}-00"
    assert not spans


async def test_an_answer_that_is_an_error_is_one_in_the_span(bench, spans):
    await asked(bench, {}, sampled=True, status=404)
    assert (spans[0].error, spans[0].attributes["error.type"]) == ("404", "404")


def web_request(url):
    return WebRequest("GET", f"{url}/a/secret-id", {}, {}, None, False, 5.0, "", False)


async def test_a_single_fetch_leaves_a_span_and_tells_nobody_of_the_trace():
    spans = []
    async with peer(lambda _: reply({}, 404)) as shop:
        client = HttpClient(Guard.of(["localhost"], [], private=True))
        fetches = OutsideFetches(client, None, 1024, spans.append)
        current_trace.set(TraceContext(TRACE, ABOVE, sampled=True))
        await fetches.fetch(web_request(shop.url))
        await client.close()
        assert "traceparent" not in shop.asked[0].headers
    (span,) = spans
    assert (span.name, span.kind, span.parent, span.error) == ("GET", "client", ABOVE, "404")
    assert "tiation.connection" not in span.attributes
    assert "secret-id" not in str(span)


async def test_a_single_grpc_call_leaves_a_span_whatever_comes_of_it():
    spans = []
    fetches = OutsideFetches(None, GrpcClient(Guard.of([], [], private=False), 1024), 1024, spans.append)
    current_trace.set(TraceContext(TRACE, ABOVE, sampled=True))
    with pytest.raises(LocationForbiddenError):
        await fetches.call_grpc(GrpcRequest("127.0.0.1:1", False, "shop.Orders", "Get", {}, {}, 5.0))
    (span,) = spans
    assert (span.name, span.parent, span.error) == ("shop.Orders/Get", ABOVE, "LOCATION_FORBIDDEN")
    assert span.attributes["server.address"] == "127.0.0.1:1"
