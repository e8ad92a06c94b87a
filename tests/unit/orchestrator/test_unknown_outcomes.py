"""Calls whose answer never comes: those with an effect end as unknown, so that no policy makes the effect twice."""

from __future__ import annotations

from contextlib import asynccontextmanager

import grpc.aio
import pytest
from tiation.engine.v1 import decision_pb2_grpc
from tiation.integration.v1 import connection_pb2, connection_pb2_grpc, fetch_pb2, fetch_pb2_grpc

from mesh.errors import Code, TiationError
from mesh.status import DETAILS_KEY, status_of
from orchestrator.adapters.grpc_calls import GrpcCalls, ModelInputs
from orchestrator.errors import CallDeferredError
from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import Crash, Memory, a_run
from tests.unit.orchestrator.executors import add, ended, executor, working
from tests.unit.orchestrator.flows import go

CONNECT = {"connection": "c", "operation": "o", "input": None}
POST = {"method": "post", "endpoint": "https://example.com/"}
GRPC = {"service": {"name": "S", "host": "example.com"}, "method": "M"}
RETRIED = """
    do:
      - t:
          try: [{e: {call: connect, with: {connection: c, operation: o}}}]
          catch: {retry: {delay: PT0.01S, limit: {attempt: {count: 3}}}}
    """


class StaleError(TiationError):
    """Integration turns calls away before it looks at their keys."""

    code = Code.UNAVAILABLE
    reason = "POLICY_STALE"


class Integration(
    connection_pb2_grpc.ConnectionServiceServicer,
    fetch_pb2_grpc.FetchServiceServicer,
    decision_pb2_grpc.DecisionServiceServicer,
):
    """Does what it is asked, and answers as the test says: one entry a call, the last for all that follow.

    An error is its own answer; a code is how gRPC ends a call to which nobody answers.
    """

    def __init__(self, *answers):
        self.answers = list(answers)
        self.effects = []

    async def _answered(self, request, context, made):
        self.effects.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, TiationError):
            status = status_of(answer, "integration.tiation.dev")
            context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
            await context.abort(grpc.StatusCode.UNAVAILABLE, answer.message)
        if answer is not None:
            await context.abort(answer, "nobody answers")
        return made

    async def Invoke(self, request, context):
        return await self._answered(request, context, connection_pb2.InvokeResponse())

    async def Fetch(self, request, context):
        return await self._answered(request, context, fetch_pb2.FetchResponse(status=200))

    async def CallGrpc(self, request, context):
        return await self._answered(request, context, fetch_pb2.CallGrpcResponse())

    async def Decide(self, request, context):
        return await self._answered(request, context, None)


class Lines:
    """Channels to one server."""

    def __init__(self, channel):
        self._channel = channel

    def stub(self, kind, _service):
        return kind(self._channel)

    @staticmethod
    def on_behalf(_service, _requester):
        return ()


@asynccontextmanager
async def calls_to(servicer):
    server = grpc.aio.server()
    connection_pb2_grpc.add_ConnectionServiceServicer_to_server(servicer, server)
    fetch_pb2_grpc.add_FetchServiceServicer_to_server(servicer, server)
    decision_pb2_grpc.add_DecisionServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield GrpcCalls(Lines(channel), a_run(), ModelInputs(), tries_s=0.2)
    finally:
        await server.stop(None)


async def reason_of(servicer, kind, arguments):
    async with calls_to(servicer) as calls:
        with pytest.raises(TiationError) as caught:
            await calls.call(kind, arguments, "key")
    return caught.value.reason


@pytest.mark.parametrize("lost", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
@pytest.mark.parametrize(("kind", "arguments"), [("connect", CONNECT), ("http", POST), ("grpc", GRPC)])
async def test_an_effect_that_nobody_answers_for_is_unknown(kind, arguments, lost):
    assert await reason_of(Integration(lost), kind, arguments) == "OUTCOME_UNKNOWN"


async def test_a_call_without_effect_that_nobody_answers_is_away():
    away = Integration(grpc.StatusCode.UNAVAILABLE)
    assert await reason_of(away, "http", POST | {"method": "get"}) == "UNAVAILABLE"
    assert await reason_of(away, "decide", {"decision": "d"}) == "UNAVAILABLE"


async def test_what_integration_says_itself_is_no_unknown_outcome():
    assert await reason_of(Integration(StaleError("not now")), "connect", CONNECT) == "POLICY_STALE"


async def test_an_effect_is_unknown_where_integration_is_lost_once_and_turns_later_calls_away():
    servicer = Integration(grpc.StatusCode.UNAVAILABLE, StaleError("not now"))
    assert await reason_of(servicer, "connect", CONNECT) == "OUTCOME_UNKNOWN"
    assert len(servicer.effects) > 1
    assert len({request.effect_key for request in servicer.effects}) == 1


async def test_an_effect_that_comes_to_an_answer_in_the_end_is_known():
    async with calls_to(Integration(grpc.StatusCode.UNAVAILABLE, None)) as calls:
        assert await calls.call("connect", CONNECT, "key") is None


def away(_given):
    raise StaleError("not now")


def test_a_call_that_had_begun_before_a_crash_is_unknown_while_integration_turns_calls_away(stage):
    memory, calls = Memory(crash_at=2), FakeCalls()
    with pytest.raises(Crash):  # the effect is made, and its end is not kept
        go(stage, RETRIED, calls=calls, memory=memory)
    again = FakeCalls({"connect": away})
    go(stage, RETRIED, calls=again, memory=memory)
    assert memory.ended[2].reason == "OUTCOME_UNKNOWN"
    assert again.effect_keys() == calls.effect_keys()


async def test_doubt_outlasts_a_deferred_call(database, sandbox):
    left = [CallDeferredError("later", 0.01, in_doubt=True)]

    def answer(given):
        if left:
            raise left.pop()
        away(given)

    await add(database)
    calls = FakeCalls({"connect": answer})
    async with working(executor(database, sandbox, RETRIED, calls)):
        run = await ended(database)
    assert run.problem.reason == "OUTCOME_UNKNOWN"
    assert len(calls.asked) == 2
    assert len(set(calls.effect_keys())) == 1
