"""A gRPC server that only its own reflection describes: its messages are made at run time, there are no stubs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection

__all__ = ["greeter"]

_KIND = descriptor_pb2.FieldDescriptorProto


def _pool() -> descriptor_pool.DescriptorPool:
    """`test.Greeter` in a file that imports another one and a well-known type."""
    words = descriptor_pb2.FileDescriptorProto(name="test/words.proto", package="test", syntax="proto3")
    words.dependency.append("google/protobuf/timestamp.proto")
    for name, fields in {
        "Asking": (("name", _KIND.TYPE_STRING, 1), ("count", _KIND.TYPE_INT64, 1), ("tags", _KIND.TYPE_STRING, 3)),
        "Answer": (("text", _KIND.TYPE_STRING, 1), ("count", _KIND.TYPE_INT64, 1), ("tags", _KIND.TYPE_STRING, 3)),
    }.items():
        message = words.message_type.add(name=name)
        for number, (field, kind, label) in enumerate(fields, start=1):
            message.field.add(name=field, number=number, type=kind, label=label)
    words.message_type[1].field.add(
        name="at", number=9, type=_KIND.TYPE_MESSAGE, label=1, type_name=".google.protobuf.Timestamp"
    )
    file = descriptor_pb2.FileDescriptorProto(name="test/greeter.proto", package="test", syntax="proto3")
    file.dependency.append("test/words.proto")
    service = file.service.add(name="Greeter")
    for name in ("Greet", "Fail", "Limit", "Watch"):
        service.method.add(
            name=name, input_type=".test.Asking", output_type=".test.Answer", server_streaming=name == "Watch"
        )
    pool = descriptor_pool.DescriptorPool()
    known = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(known)
    for each in (known, words, file):
        pool.Add(each)
    return pool


@asynccontextmanager
async def greeter(*, reflected: bool = True) -> AsyncIterator[str]:
    """The server; gives `localhost:port`."""
    pool = _pool()
    asking = message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Asking"))
    answer = message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Answer"))

    async def greet(request: Any, _: Any) -> Any:
        made = answer(text=f"Hello {request.name}", count=request.count, tags=request.tags)
        made.at.seconds = 1
        return made

    async def fail(request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode[request.name or "NOT_FOUND"], "no such greeting")

    async def limit(request: Any, context: Any) -> Any:
        status = status_pb2.Status(code=8, message="too many")
        detail = error_details_pb2.RetryInfo()
        detail.retry_delay.seconds = request.count or 9
        status.details.add().Pack(detail)
        metadata = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many", metadata)

    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            handler, request_deserializer=asking.FromString, response_serializer=answer.SerializeToString
        )
        for name, handler in (("Greet", greet), ("Fail", fail), ("Limit", limit))
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Greeter", handlers),))
    if reflected:
        reflection.enable_server_reflection(["test.Greeter"], server, pool)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"localhost:{port}"
    finally:
        await server.stop(None)
