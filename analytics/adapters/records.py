"""The feed of records from security, and what each record comes to as a fact."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import cache, lru_cache
from typing import TypeVar

import grpc.aio
from google.protobuf import descriptor_pool
from tiation.mesh.v1 import call_record_pb2
from tiation.security.v1 import record_pb2, record_pb2_grpc

from analytics.errors import FeedBrokenError
from analytics.facts import Fact, Usage
from analytics.ports import Batch
from mesh.channel import Channels
from mesh.contracts import proto_services
from mesh.identity import SYSTEM_TENANT
from mesh.resource import fits

__all__ = ["RecordFeed", "fact_of"]

N = TypeVar("N", int, float)
_ENDED_RUN = "tiation.orchestrator.v1.Run/"
_MAX_AHEAD_S = 300
"""A record that begins later than this after it was received comes from a clock that is wrong."""
_UNSEEN = frozenset({5, 7})
"""NOT_FOUND and PERMISSION_DENIED: the resource was not looked at, and may be any name that somebody made up."""
_UNKNOWN = 2
_LAST_CODE = 16
"""Of `google.rpc.Code`."""
_MOST = 2**40
"""A call that says it used up more, or took longer in milliseconds, counts as so much: what adds up has 64 bits."""
_NOTHING = ("", "", "", "")
_NO_USAGE = Usage()


class RecordFeed:
    """Follows security's records.

    Args:
        channels: the way to security.
    """

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def follow(self, position: int) -> AsyncIterator[Batch]:
        """What comes after a position, for ever.

        Raises:
            FeedBrokenError: security does not hand out records now.
        """
        stub = self._channels.stub(record_pb2_grpc.RecordServiceStub, "security")
        try:
            async for answer in stub.StreamRecords(record_pb2.StreamRecordsRequest(after_sequence=position)):
                yield _batch(answer, position)
                if answer.records:
                    position = answer.records[-1].sequence
        except grpc.aio.AioRpcError as error:
            raise FeedBrokenError(error.details() or error.code().name) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # So grpc.aio ends a stream whose channel is closed: a new certificate has come, and this was the old one's.
            raise FeedBrokenError("the channel was closed") from None


def _batch(answer: record_pb2.StreamRecordsResponse, position: int) -> Batch:
    if not answer.records:
        return Batch((), (), position, answer.newest_sequence)
    last = answer.records[-1]
    facts = [fact_of(record.call, record.receive_time.seconds) for record in answer.records]
    positions = [record.sequence for record in answer.records]
    return Batch(facts, positions, last.sequence, answer.newest_sequence, last.receive_time.ToMicroseconds() / 1e6)


def fact_of(record: call_record_pb2.CallRecord, receive_s: int) -> Fact:
    """What a record comes to; numbers that cannot be are brought to the nearest that can.

    Args:
        record: as security hands it out.
        receive_s: when security received it: stands in for a beginning that cannot be.
    """
    start_s, method = record.start_time.seconds, record.method
    if not 0 < start_s <= receive_s + _MAX_AHEAD_S:
        start_s = receive_s
    resource = record.resource if record.code not in _UNSEEN else ""
    agent, model, version, connection = _resources(record.actor, resource)
    service = record.service
    ended = method.startswith(_ENDED_RUN)
    usage, used = record.usage, _NO_USAGE
    if usage and not ended:
        used = Usage(*(_bounded(usage.get(unit, 0)) for unit in Usage._fields))
    duration = record.duration
    return Fact(
        start_s,
        record.tenant or SYSTEM_TENANT,
        ("" if ended else service, "" if ended else method, agent, model, version, connection, record.subject),
        record.code if 0 <= record.code <= _LAST_CODE else _UNKNOWN,
        _bounded(duration.seconds * 1000 + duration.nanos / 1e6),
        method in _streams(),
        _bounded(record.request_bytes),
        _bounded(record.response_bytes),
        used,
        record.category == "EXECUTE",
        method.removeprefix(_ENDED_RUN) if ended else "",
        _bounded(usage.get("steps", 0)) if ended else 0,
    )


def _bounded(number: N) -> N:
    return number if 0 <= number <= _MOST else type(number)(0 if number < 0 else _MOST)


@cache
def _streams() -> frozenset[str]:
    """Every method of the platform that streams, either way."""
    pool = descriptor_pool.Default()
    return frozenset(
        f"{service}/{method.name}"
        for service in proto_services()
        for method in pool.FindServiceByName(service).methods
        if method.client_streaming or method.server_streaming
    )


@lru_cache(maxsize=8192)
def _resources(actor: str, resource: str) -> tuple[str, str, str, str]:
    """Agent, model, model's version and connection that a call was made by or is about.

    A name that no resource can have counts as none: records hold what was asked for, whatever that is.
    """
    agent = actor if fits("tenants/{tenant}/agents/{agent}", actor) else ""
    parts = resource.split("/")
    if len(parts) < 4 or not fits("tenants/{tenant}/x/{id}", f"tenants/{parts[1]}/x/{parts[3]}"):
        return (agent, *_NOTHING[1:])
    name = "/".join(parts[:4])
    match parts[2]:
        case "agents":
            return (agent or name, "", "", "")
        case "models":
            version = parts[5] if len(parts) == 6 and parts[4] == "versions" and fits("{id}", parts[5]) else ""
            return (agent, name, version, "")
        case "connections":
            return (agent, "", "", name)
    return (agent, "", "", "")
