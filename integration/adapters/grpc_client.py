"""Unary gRPC calls to servers that describe themselves: messages from their reflection, addresses past the guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from grpc_reflection.v1alpha import reflection_pb2

from integration.adapters.egress import Guard, GuardedNetwork, Resolver, check_port, plain_host, resolve
from integration.errors import (
    AnswerInvalidError,
    AnswerTooLargeError,
    CallRefusedError,
    CallTimeoutError,
    IntegrationError,
    LocationForbiddenError,
    RateLimitedError,
    SystemRefusedError,
    SystemUnavailableError,
)
from integration.pacing import heeded_s
from integration.ports import GrpcRequest
from mesh.errors import Code
from mesh.status import remote_error

__all__ = ["GrpcClient"]

_REFLECTIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
_MAX_FILES = 200
_MAX_DESCRIPTOR_BYTES = 4 * 1024 * 1024
_RESERVED = ("grpc-", ":")
_TOO_LARGE = "larger than max"
_NOT_DONE = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.UNIMPLEMENTED,
    }
)  # fmt: skip
"""What a server answers that has looked at a call and refused it; after the others nobody knows."""


@dataclass(frozen=True, slots=True)
class _Described:
    """A method with the pool that knows its messages."""

    method: MethodDescriptor
    pool: descriptor_pool.DescriptorPool


class GrpcClient:
    """Calls gRPC servers that the guard allows; each call opens a channel of its own.

    Args:
        guard: decides.
        max_bytes: the most that an answer may hold.
        resolver: finds addresses.
        roots: certificates (PEM) to trust; None for those that gRPC brings.
    """

    def __init__(self, guard: Guard, max_bytes: int, resolver: Resolver = resolve, roots: bytes | None = None) -> None:
        self._guard = guard
        self._max_bytes = max_bytes
        self._resolver = resolver
        self._roots = roots

    async def call(self, request: GrpcRequest) -> Any:  # noqa: ANN401 -- any JSON
        """Make one call.

        Raises:
            LocationForbiddenError: the target may not be reached, or not in the clear.
            SystemRefusedError: the server has no such method, or does not accept the arguments.
            SystemUnavailableError, CallTimeoutError: it does not answer; `outcome_known` says whether it may have.
            AnswerInvalidError, AnswerTooLargeError: what it answers cannot be used.
        """
        sent = False
        try:
            async with asyncio.timeout(request.timeout_s):
                channel = await self._channel(request)
                async with channel:
                    described = await self._described(channel, request)
                    message = _request(described, request)
                    sent = True
                    answer = await self._answer(channel, described, message, request)
        except TimeoutError:
            late = CallTimeoutError(f"{request.target} did not answer within {request.timeout_s:g} s")
            late.outcome_known = not sent
            raise late from None
        return json_format.MessageToDict(answer, descriptor_pool=described.pool)

    async def _channel(self, request: GrpcRequest) -> grpc.aio.Channel:
        """A channel to the addresses that were checked, whatever their name leads to a moment later."""
        host, port = _host_and_port(request.target)
        network = GuardedNetwork(self._guard, self._resolver, public=not request.plaintext)
        place = _place(await network.addresses(host, port), port)
        options = [
            ("grpc.default_authority", f"[{host}]:{port}" if ":" in host else f"{host}:{port}"),
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", self._max_bytes),
            ("grpc.service_config_disable_resolution", 1),
        ]
        if request.plaintext:
            return grpc.aio.insecure_channel(place, options=options)
        credentials = grpc.ssl_channel_credentials(self._roots)
        return grpc.aio.secure_channel(place, credentials, [*options, ("grpc.ssl_target_name_override", host)])

    async def _described(self, channel: grpc.aio.Channel, request: GrpcRequest) -> _Described:
        """Ask the server what the method takes and gives."""
        files: Mapping[str, descriptor_pb2.FileDescriptorProto] = {}
        for reflection in _REFLECTIONS:
            try:
                files = await _files(channel, reflection, request.service)
                break
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    raise _translated(error, request.target) from None
        else:
            raise SystemRefusedError(f"{request.target} does not describe itself; it needs gRPC server reflection")
        pool = descriptor_pool.DescriptorPool()
        try:
            for file in _in_order(files):
                pool.Add(file)
            service = pool.FindServiceByName(request.service)
            method = service.methods_by_name.get(request.method)
        except (TypeError, KeyError, ValueError):
            raise AnswerInvalidError(f"{request.target} describes {request.service} in a way that is wrong") from None
        if method is None:
            known = ", ".join(each.name for each in service.methods)
            raise SystemRefusedError(f"{request.service} has no method `{request.method}`; it has {known[:500]}")
        if method.client_streaming or method.server_streaming:
            raise SystemRefusedError(f"{request.service}/{request.method} streams; only plain methods can be called")
        return _Described(method, pool)

    async def _answer(
        self, channel: grpc.aio.Channel, described: _Described, message: Message, request: GrpcRequest
    ) -> Message:
        answer_class = message_factory.GetMessageClass(described.method.output_type)
        call: Any = channel.unary_unary(f"/{request.service}/{request.method}", request_serializer=_bytes)
        metadata = tuple((name.lower(), value) for name, value in request.metadata.items())
        try:
            raw: bytes = await call(message, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            failed = _translated(error, request.target)
            failed.outcome_known = error.code() in _NOT_DONE and not isinstance(failed, AnswerTooLargeError)
            raise failed from None
        try:
            return answer_class.FromString(raw)
        except DecodeError:
            wrong = AnswerInvalidError(f"{request.target} answers bytes that are no {answer_class.__name__}")
            wrong.outcome_known = False
            raise wrong from None


def _bytes(message: Message) -> bytes:
    return message.SerializeToString()


def _place(addresses: Sequence[str], port: int) -> str:
    """Addresses as gRPC takes them, which is of one family only."""
    old = [address for address in addresses if ":" not in address]
    if old:
        return "ipv4:" + ",".join(f"{address}:{port}" for address in old)
    return "ipv6:" + ",".join(f"[{address}]:{port}" for address in addresses)


def _host_and_port(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    bare = host.startswith("[") == host.endswith("]") and (":" not in host or host.startswith("["))
    if not host or not port.isascii() or not port.isdecimal() or len(port) > 5 or not bare:
        raise LocationForbiddenError("the target must read host:port, for example greeter.example.com:443")
    check_port(int(port))
    return plain_host(host), int(port)


async def _files(
    channel: grpc.aio.Channel, reflection: str, service: str
) -> Mapping[str, descriptor_pb2.FileDescriptorProto]:
    """The file that holds the service, and everything that it imports."""
    asked: asyncio.Queue[reflection_pb2.ServerReflectionRequest | None] = asyncio.Queue()

    async def questions() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        while (question := await asked.get()) is not None:
            yield question

    method = channel.stream_stream(
        f"/{reflection}/ServerReflectionInfo",
        request_serializer=_bytes,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    answers = method(questions())
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    question = reflection_pb2.ServerReflectionRequest(file_containing_symbol=service)
    size = 0
    try:
        while True:
            asked.put_nowait(question)
            answer = await answers.read()
            if not isinstance(answer, reflection_pb2.ServerReflectionResponse):
                raise AnswerInvalidError("the server's reflection ended without an answer")
            for raw in _described_files(answer, service):
                size += len(raw)
                file = descriptor_pb2.FileDescriptorProto.FromString(raw)
                found[file.name] = file
            missing = _missing(found)
            if len(found) + len(missing) > _MAX_FILES or size > _MAX_DESCRIPTOR_BYTES:
                raise AnswerInvalidError(f"the server describes more than {_MAX_FILES} files or 4 MiB")
            if not missing:
                return found
            question = reflection_pb2.ServerReflectionRequest(file_by_filename=missing[0])
    except DecodeError:
        raise AnswerInvalidError("the server's reflection answers something that is no description") from None
    finally:
        asked.put_nowait(None)
        answers.cancel()


def _described_files(answer: reflection_pb2.ServerReflectionResponse, service: str) -> Sequence[bytes]:
    if answer.HasField("error_response"):
        raise SystemRefusedError(f"the server has no service `{service}`")
    return list(answer.file_descriptor_response.file_descriptor_proto)


def _missing(found: dict[str, descriptor_pb2.FileDescriptorProto]) -> list[str]:
    """Files that are imported and not there yet; those that every protobuf knows are taken from ours."""
    wanted = sorted({name for file in found.values() for name in file.dependency} - found.keys())
    missing = []
    for name in wanted:
        try:
            own = descriptor_pool.Default().FindFileByName(name) if name.startswith("google/protobuf/") else None
        except KeyError:
            own = None
        if own is None:
            missing.append(name)
            continue
        known = descriptor_pb2.FileDescriptorProto()
        own.CopyToProto(known)
        found[name] = known
    return missing if missing or not wanted else _missing(found)


def _in_order(files: Mapping[str, descriptor_pb2.FileDescriptorProto]) -> list[descriptor_pb2.FileDescriptorProto]:
    """Files after those that they import.

    Raises:
        ValueError: they import each other in a circle.
    """
    ordered: list[descriptor_pb2.FileDescriptorProto] = []
    done: set[str] = set()
    waiting = dict(files)
    while waiting:
        ready = [name for name, file in waiting.items() if done.issuperset(file.dependency)]
        if not ready:
            raise ValueError("a circle")
        for name in ready:
            ordered.append(waiting.pop(name))
            done.add(name)
    return ordered


def _request(described: _Described, request: GrpcRequest) -> Message:
    """The request message.

    Raises:
        SystemRefusedError: the arguments do not fit it, or the metadata cannot be sent.
    """
    for name, value in request.metadata.items():
        plain = name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
        if not plain or name.lower().startswith(_RESERVED) or name.lower().endswith("-bin") or not value.isprintable():
            raise SystemRefusedError(f"`{name[:100]}` cannot be sent as metadata", header=name[:100])
    message = message_factory.GetMessageClass(described.method.input_type)()
    try:
        json_format.ParseDict(dict(request.arguments), message, descriptor_pool=described.pool)
    except json_format.ParseError as error:
        raise SystemRefusedError(f"the arguments are no {described.method.input_type.full_name}: {error}") from None
    return message


def _translated(error: grpc.aio.AioRpcError, target: str) -> IntegrationError:
    """A server's error in our words."""
    remote = remote_error(error)
    code = error.code()
    said = f"{target} answers {code.name}: {remote.message[:500]}"
    failed: IntegrationError
    match code:
        case grpc.StatusCode.RESOURCE_EXHAUSTED if _TOO_LARGE in remote.message:
            return AnswerTooLargeError(f"{target} answers more than may be returned")
        case grpc.StatusCode.RESOURCE_EXHAUSTED | grpc.StatusCode.UNAVAILABLE if remote.retry_after_s is not None:
            failed = RateLimitedError(said, retry_after_s=heeded_s(remote.retry_after_s))
        case grpc.StatusCode.UNAVAILABLE:
            failed = SystemUnavailableError(f"{target} cannot be reached: {remote.message[:500]}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            failed = CallTimeoutError(said)
        case _ if code in _NOT_DONE:
            failed = CallRefusedError(Code(code.value[0]), said, remote_reason=remote.reason)
        case _:
            failed = SystemRefusedError(said, grpc_code=code.name, remote_reason=remote.reason)
    return failed
