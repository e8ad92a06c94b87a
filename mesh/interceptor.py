"""The one interceptor: it takes every call through the stages, whatever its form, and refuses in one place.

Requests arrive as bytes and are parsed here, so that bytes that are no message are refused and recorded like
anything else. What each stage does lives in `mesh.stages`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import Message

from mesh.call import Call, current_call
from mesh.errors import TiationError
from mesh.http2.calls import CallContext
from mesh.identity import set_caller
from mesh.live import LastingCalls
from mesh.methods import Method
from mesh.record import Recorder
from mesh.stages.access import AccessStage
from mesh.stages.caching import caching_headers
from mesh.stages.codec import decode, encode, serialized
from mesh.stages.deadline import open_deadline
from mesh.stages.errors import DeadlineExceededError, MalformedRequestError, failure_of
from mesh.stages.identity import IdentityStage
from mesh.stages.limits import LimitStage
from mesh.stages.metrics import CallMetrics
from mesh.stages.trace import TraceStage
from mesh.stages.validation import ValidationStage
from mesh.status import DETAILS_KEY, GRPC_CODES, status_of
from mesh.uuid7 import uuid7

__all__ = ["CallInterceptor", "Stages"]

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages that need something to work with."""

    trace: TraceStage
    metrics: CallMetrics
    recorder: Recorder
    identity: IdentityStage
    limits: LimitStage
    access: AccessStage
    validation: ValidationStage
    lasting: LastingCalls


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Takes calls through the stages.

    Args:
        methods: what the contracts say, by path.
        stages: what does the work.
    """

    def __init__(self, methods: Mapping[str, Method], stages: Stages) -> None:
        self._methods = methods
        self._stages = stages
        self._domain = f"{stages.recorder.service}.tiation.dev"
        self._handlers: dict[str, Handler] = {}
        self._loop = asyncio.get_running_loop()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The wrapped handler of a method; None, and so UNIMPLEMENTED, for methods that nobody serves."""
        wrapped = self._handlers.get(details.method)
        if wrapped is None:
            handler = await continuation(details)
            if handler is None:
                return None
            wrapped = self._handlers[details.method] = self._wrap(self._methods[details.method], handler)
        return wrapped

    def _wrap(self, method: Method, handler: Handler) -> Handler:
        if method.streams_out:
            behavior = handler.stream_stream if method.streams_in else handler.unary_stream
        else:
            behavior = handler.stream_unary if method.streams_in else handler.unary_unary
        make = {
            (False, False): (grpc.unary_unary_rpc_method_handler, self._answering_once),
            (False, True): (grpc.unary_stream_rpc_method_handler, self._answering_often),
            (True, False): (grpc.stream_unary_rpc_method_handler, self._answering_once),
            (True, True): (grpc.stream_stream_rpc_method_handler, self._answering_often),
        }[method.streams_in, method.streams_out]
        served = make[1](method, behavior)
        return make[0](served, request_deserializer=None, response_serializer=serialized)

    def _answering_once(self, method: Method, behavior: Any) -> Any:  # noqa: ANN401 -- grpc's own
        """Serve methods with one answer."""

        async def serve(incoming: Any, context: CallContext) -> bytes:  # noqa: ANN401 -- bytes or a stream
            call = self._open(method, context)
            answer = b""
            headers: tuple[tuple[str, str], ...] = ()
            failure: TiationError | None = None
            try:
                limit_s = self._admit(call)
                request = await self._request(call, incoming)
                mark = time.perf_counter_ns()
                end = self._loop.call_later(limit_s, _end_late, call, context) if limit_s is not None else None
                try:
                    if method.streams_in:
                        with self._stages.lasting.watch(call):
                            made = await behavior(request, context)
                    else:
                        made = await behavior(request, context)
                finally:
                    if end is not None:
                        end.cancel()
                call.stage_us["handler"] = (time.perf_counter_ns() - mark) // 1000
                if made is not None:
                    headers, answer = caching_headers(call, made), encode(call, made)
                call.response_bytes = len(answer)
            except BaseException as error:  # noqa: BLE001 -- every way to end leaves a record
                failure = await self._fail(call, error)
            await self._close(call, failure)
            if headers:
                await context.send_initial_metadata(headers)
            return answer

        return serve

    def _answering_often(self, method: Method, behavior: Any) -> Any:  # noqa: ANN401 -- grpc's own
        """Serve methods with a stream of answers."""

        async def serve(incoming: Any, context: CallContext) -> AsyncIterator[bytes]:  # noqa: ANN401 -- as above
            call = self._open(method, context)
            failure: TiationError | None = None
            try:
                self._admit(call)
                answers = behavior(await self._request(call, incoming), context)
                with self._stages.lasting.watch(call) as lasting:
                    if hasattr(answers, "__aiter__"):
                        async for answer in answers:
                            data = encode(call, answer)
                            call.response_bytes += len(data)
                            lasting.inside = False
                            yield data
                            lasting.go_on()
                    else:
                        await answers  # a servicer that writes to the context itself
            except GeneratorExit as error:  # the caller left while gRPC was handing an answer over
                self._keep(call, await self._fail(call, error))
                raise
            except BaseException as error:  # noqa: BLE001 -- every way to end leaves a record
                failure = await self._fail(call, error)
            if failure is not None and failure is call.ended and (last := _last_word(method, failure, self._domain)):
                yield encode(call, last)
            await self._close(call, failure)

        return serve

    def _open(self, method: Method, context: CallContext) -> Call:
        now_ns = time.time_ns()
        call = Call(method, context, context.texts, uuid7(now_ns), now_ns, time.perf_counter_ns())
        current_call.set(call)
        self._stages.trace.open(call)
        self._stages.metrics.open(call)
        return call

    def _admit(self, call: Call) -> float | None:
        """What is known before the request is read: time and caller. Returns seconds to stop after, if any."""
        limit_s = open_deadline(call)
        mark = time.perf_counter_ns()
        self._stages.identity.run(call)
        call.stage_us["identity"] = (time.perf_counter_ns() - mark) // 1000
        set_caller(call.caller)
        self._stages.limits.enter(call)
        return limit_s

    async def _request(self, call: Call, incoming: Any) -> Any:  # noqa: ANN401 -- a message or a stream of them
        if not call.method.streams_in:
            return self._check(call, incoming)
        raw = aiter(incoming)
        try:
            first = self._check(call, await anext(raw))
        except StopAsyncIteration:
            if call.method.streams_out:
                return _nothing()
            raise MalformedRequestError("the stream ended before its first message") from None
        return self._checked_stream(call, first, raw)

    async def _checked_stream(self, call: Call, first: Message, raw: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        yield first
        resource = call.resource
        async for data in raw:
            yield self._check(call, data, later=True)
            call.resource = call.resource or resource

    def _check(self, call: Call, data: bytes, *, later: bool = False) -> Message:
        """Parse one message and ask access and validation about it."""
        mark = time.perf_counter_ns()
        call.request_bytes += len(data)
        request = decode(call, data)
        names_resource = call.method.template or (call.method.resource and call.method.resource.value(request))
        if not later or names_resource:
            self._stages.access.run(call, request)
        self._stages.validation.run(call, request)
        call.stage_us["checks"] = call.stage_us.get("checks", 0) + (time.perf_counter_ns() - mark) // 1000
        return request

    async def _fail(self, call: Call, error: BaseException) -> TiationError | None:
        """Note why a call fails; None where the servicer has already told the caller."""
        if call.ended is not None and isinstance(error, asyncio.CancelledError):
            if (task := asyncio.current_task()) is not None:
                task.uncancel()  # it was we who cancelled it, and there is something left to say
            error = call.ended
        if isinstance(error, grpc.aio.AbortError):
            call.code, call.reason = _code_of(call.context), "ABORTED_BY_SERVICER"
            return None
        failure = failure_of(call, error)
        call.code, call.reason = int(failure.code), failure.reason
        return failure

    async def _close(self, call: Call, failure: TiationError | None) -> None:
        """Keep the record, then let the answer go; without a record there is no answer but an error."""
        failure = self._keep(call, failure)
        if failure is not None:
            status = status_of(failure, self._domain)
            told: list[tuple[str, str | bytes]] = [(DETAILS_KEY, status.SerializeToString())]
            if failure.retry_after_s is not None:
                told.append(("retry-after", str(max(1, ceil(failure.retry_after_s)))))  # what HTTP clients look for
            await call.context.abort(GRPC_CODES[int(failure.code)], status.message, tuple(told))
        elif call.code:
            await call.context.abort(GRPC_CODES[call.code], call.context.details() or "")

    def _keep(self, call: Call, failure: TiationError | None) -> TiationError | None:
        """End a call for all who count; returns why it fails."""
        self._stages.limits.leave(call)
        if call.method.recorded:
            try:
                self._stages.recorder.keep(call)
            except TiationError as error:
                self._stages.metrics.unrecorded()
                failure = error
                call.code, call.reason = int(error.code), error.reason
        call.open = False
        self._stages.metrics.close(call)
        self._stages.trace.close(call)
        return failure


def _end_late(call: Call, context: CallContext) -> None:
    """The time is over that the contract gives the call; what it raises then is made out by `_fail`."""
    call.ended = DeadlineExceededError("the deadline passed before the answer was ready")
    if context.task is not None:
        context.task.cancel()


async def _nothing() -> AsyncIterator[Message]:
    """A stream that ended before its first message: nothing was asked, and so nothing is answered."""
    nothing: tuple[Message, ...] = ()
    for message in nothing:
        yield message


def _last_word(method: Method, failure: TiationError, domain: str) -> Message | None:
    """What a stream's last message says of its end, for those who never see its status; None where it has no place."""
    field = method.answer.DESCRIPTOR.fields_by_name.get("error")
    if field is None or field.message_type is None or field.message_type.full_name != "google.rpc.Status":
        return None
    return method.answer(error=status_of(failure, domain))


def _code_of(context: Any) -> int:  # noqa: ANN401 -- grpc's own
    code = context.code()
    return int(code.value[0] if isinstance(code, grpc.StatusCode) else code or 2)
