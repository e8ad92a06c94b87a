"""Calls of the command that reached nobody are made again; those that may have are not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf import empty_pb2

from cli.client import Patience


class Door(grpc.GenericRpcHandler):
    """Answers UNAVAILABLE with each text in turn, then an empty message."""

    def __init__(self, *texts):
        self.texts = list(texts)
        self.calls = 0

    def service(self, _):
        def answer(_request, context):
            self.calls += 1
            if self.texts:
                context.abort(grpc.StatusCode.UNAVAILABLE, self.texts.pop(0))
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


def asked(door):
    """One call through the door."""
    server = grpc.server(ThreadPoolExecutor(2), handlers=(door,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = grpc.intercept_channel(channel, Patience()).unary_unary(
                "/a.B/C", empty_pb2.Empty.SerializeToString, empty_pb2.Empty.FromString
            )
            return call(empty_pb2.Empty(), timeout=10)
    finally:
        server.stop(None)


def test_a_call_that_nobody_was_there_for_is_made_again():
    door = Door("no healthy upstream", "no healthy upstream")
    assert asked(door) == empty_pb2.Empty()
    assert door.calls == 3


def test_a_call_that_may_have_reached_somebody_is_not():
    door = Door("upstream connect error or disconnect/reset before headers")
    with pytest.raises(grpc.RpcError):
        asked(door)
    assert door.calls == 1
