"""A call gets the time that its contract gives it, and no more, whether its caller waits for ever or not."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import grpc
import grpc.aio
import pytest
from tiation.engine.v1 import model_pb2

from mesh.interceptor import CallInterceptor
from mesh.methods import methods_of

PATH = "/tiation.engine.v1.ModelService/ListModels"
IGNORES = SimpleNamespace(
    open=lambda _: None, close=lambda _: None, run=lambda *_: None, enter=lambda _: None, leave=lambda _: None
)


class Context:
    """What a call needs of its connection."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.task = asyncio.current_task()
        self.status: tuple[grpc.StatusCode, str] | None = None

    def time_remaining(self) -> None:
        return None

    async def abort(self, code: grpc.StatusCode, message: str, _: object) -> None:
        self.status = code, message
        raise grpc.aio.AbortError


async def answered(behavior, *, within_s: float) -> Context:
    """Have a call answered whose contract gives it so long."""
    method = replace(methods_of(["tiation.engine.v1.ModelService"])[PATH], timeout_s=within_s)
    kept: list = []
    stages = SimpleNamespace(
        recorder=SimpleNamespace(service="engine", keep=kept.append),
        **dict.fromkeys(("trace", "metrics", "identity", "limits", "access", "validation", "lasting"), IGNORES),
    )
    stages.identity = SimpleNamespace(run=lambda call: setattr(call, "caller", SimpleNamespace(tenant="default")))
    context = Context()
    serve = CallInterceptor({PATH: method}, stages)._answering_once(method, behavior)
    with suppress(grpc.aio.AbortError):
        await serve(b"", context)
    assert [call.code for call in kept] == [int(context.status[0].value[0]) if context.status else 0]
    return context


async def slow(*_: object) -> model_pb2.ListModelsResponse:
    await asyncio.sleep(30)
    return model_pb2.ListModelsResponse()


async def at_once(*_: object) -> model_pb2.ListModelsResponse:
    return model_pb2.ListModelsResponse()


async def test_a_call_that_takes_longer_is_ended_and_its_task_goes_on():
    async with asyncio.timeout(5):
        context = await answered(slow, within_s=0.05)
    assert context.status == (grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the answer was ready")
    assert not context.task.cancelling()


async def test_after_an_answer_in_time_nothing_ends_the_task():
    context = await answered(at_once, within_s=0.05)
    await asyncio.sleep(0.1)
    assert context.status is None


async def test_a_caller_that_leaves_before_has_cancelled():
    async def leaves(*_: object) -> model_pb2.ListModelsResponse:
        raise asyncio.CancelledError

    context = await answered(leaves, within_s=5.0)
    assert context.status[0] is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("swallows", [True, False])
async def test_an_end_that_comes_late_is_told_as_what_it_was(swallows: bool):
    async def stubborn(*_: object) -> model_pb2.ListModelsResponse:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            if not swallows:
                raise
        return model_pb2.ListModelsResponse()

    context = await answered(stubborn, within_s=0.05)
    assert (context.status is None) == swallows
