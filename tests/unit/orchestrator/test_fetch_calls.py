"""What a fetch step becomes for integration, and what its answer becomes for the flow."""

from __future__ import annotations

import base64

import pytest
from google.protobuf import json_format
from tiation.integration.v1 import fetch_pb2 as pb

from mesh.errors import InvalidError
from orchestrator.adapters.fetch_calls import grpc_request, http_output, http_request
from orchestrator.errors import HttpStatusError

HTTP = {"method": "post", "endpoint": "https://a.example/x"}
GRPC = {"service": {"name": "a.B", "host": "h"}, "method": "M"}


def answer(status=200, body=None, kind="application/json"):
    made = pb.FetchResponse(status=status, headers={"content-type": kind})
    if body is not None:
        json_format.ParseDict(body, made.body)
    return made


def output(given, got, **more):
    arguments = HTTP | {"output": given} | more
    return http_output(arguments, http_request("tenants/default", arguments, "k"), got)


def test_a_request_carries_what_the_step_says():
    arguments = HTTP | {
        "headers": {"x-a": "b", "x-n": 1.5}, "query": {"q": 5, "on": True}, "body": {"a": [1]}, "redirect": True,
        "timeout": 2.5,
    }  # fmt: skip
    request = http_request("tenants/default", arguments, "key")
    assert (request.parent, request.method, request.uri) == ("tenants/default", "POST", "https://a.example/x")
    assert dict(request.headers) == {"x-a": "b", "x-n": "1.5"}
    assert dict(request.query) == {"q": "5", "on": "true"}
    assert json_format.MessageToDict(request.body) == {"a": [1]}
    assert (request.effect_key, request.follow_redirects) == ("key", True)
    assert request.timeout.ToMilliseconds() == 2500


@pytest.mark.parametrize("method", ["GET", "head", "Options"])
def test_what_changes_nothing_has_no_key(method):
    assert not http_request("tenants/default", HTTP | {"method": method}, "key").effect_key


@pytest.mark.parametrize(
    ("field", "value"),
    [("method", 5), ("endpoint", ""), ("endpoint", {"a": 1}), ("headers", "x: y"), ("headers", {"x": None}),
     ("query", {"x": [1]}), ("redirect", "yes")],
)  # fmt: skip
def test_what_no_request_can_carry_is_said_so(field, value):
    with pytest.raises(InvalidError, match=r"must be"):
        http_request("tenants/default", HTTP | {field: value}, "key")


def test_an_answer_is_its_content_or_all_of_it():
    assert output("content", answer(body={"a": 1})) == {"a": 1}
    assert output("content", answer(204)) is None
    whole = output("response", answer(201, "text", "text/plain"))
    assert whole == {
        "request": {"method": "POST", "uri": "https://a.example/x", "headers": {}},
        "statusCode": 201, "headers": {"content-type": "text/plain"}, "content": "text",
    }  # fmt: skip


def test_raw_is_base64_whatever_the_body_is():
    def raw(*given):
        return base64.b64decode(output("raw", answer(200, *given)))

    assert raw({"a": "b"}) == b'{"a":"b"}'
    assert raw("aGk=", "text/plain") == b"aGk="
    assert raw(base64.b64encode(b"\xff\xfe").decode(), "image/png") == b"\xff\xfe"
    assert raw("no base 64!", "image/svg+xml") == b"no base 64!"
    assert output("raw", answer(204)) == ""


@pytest.mark.parametrize(("status", "redirect", "fails"), [(302, False, True), (302, True, False), (404, True, True)])
def test_a_status_outside_what_is_allowed_fails(status, redirect, fails):
    if fails:
        with pytest.raises(HttpStatusError, match=str(status)):
            output("content", answer(status), redirect=redirect)
    else:
        assert output("content", answer(status), redirect=redirect) is None


def test_a_grpc_request_carries_what_the_step_says():
    request = grpc_request("tenants/default", GRPC | {"arguments": {"x": 1}, "plaintext": True, "timeout": 1}, "key")
    assert (request.target, request.service, request.method) == ("h:443", "a.B", "M")
    assert (request.plaintext, request.effect_key, request.timeout.seconds) == (True, "key", 1)
    assert json_format.MessageToDict(request.arguments) == {"x": 1}


@pytest.mark.parametrize(
    "more", [{"service": {"name": "a.B", "host": "h", "port": port}} for port in (0, 70000, "1", 1.5, True)]
    + [{"service": {"name": "a.B", "host": 5}}, {"arguments": [1]}, {"plaintext": 1}, {"method": ""}],
)  # fmt: skip
def test_what_no_grpc_call_can_carry_is_said_so(more):
    with pytest.raises(InvalidError, match=r"must be"):
        grpc_request("tenants/default", GRPC | more, "key")
