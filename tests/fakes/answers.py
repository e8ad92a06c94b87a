"""What tests say about answers: refused so, in time."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason of the answer's only ErrorInfo."""
    status = status_pb2.Status()
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    infos = [detail for detail in status.details if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    assert len(infos) == 1
    info = error_details_pb2.ErrorInfo()
    infos[0].Unpack(info)
    return info.reason


async def refused(call, code: grpc.StatusCode, reason: str = "") -> grpc.aio.AioRpcError:
    """Await a call that must be refused so."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() == code, caught.value
    if reason:
        assert reason_of(caught.value) == reason
    return caught.value


async def within(seconds: float, attempt):
    """A call that must succeed before the time is over; its answer."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await attempt()
            except grpc.aio.AioRpcError:
                continue


async def denied_within(seconds: float, attempt) -> None:
    """A call that must be denied, or whose token must be refused, before the time is over."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                await attempt()
            except grpc.aio.AioRpcError as error:
                assert error.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
                return
