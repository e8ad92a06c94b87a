"""The runs that have not ended, as the orchestrator counts them."""

from __future__ import annotations

import time
from collections.abc import Mapping

import grpc.aio
from tiation.orchestrator.v1 import run_pb2, run_pb2_grpc

from mesh.channel import Channels
from mesh.errors import TiationError

__all__ = ["OrchestratorRuns"]

_FRESH_S = 0.9
_TIMEOUT_S = 0.5
_MAX_TENANTS = 1024


class OrchestratorRuns:
    """Asks the orchestrator, once a second and tenant at most, however many want to know.

    Args:
        channels: the way to the orchestrator.
    """

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._known: dict[str, tuple[float, Mapping[str, Mapping[str, int]]]] = {}

    async def count(self, tenant: str) -> Mapping[str, Mapping[str, int]]:
        """How many there are by agent and state; empty while the orchestrator does not answer."""
        now = time.monotonic()
        known = self._known.get(tenant)
        if known is not None and now - known[0] < _FRESH_S:
            return known[1]
        try:
            stub = self._channels.stub(run_pb2_grpc.RunServiceStub, "orchestrator")
            answer = await stub.CountLiveRuns(run_pb2.CountLiveRunsRequest(tenant=tenant), timeout=_TIMEOUT_S)
        except (grpc.aio.AioRpcError, TiationError):
            return {}
        counted: dict[str, dict[str, int]] = {}
        for count in answer.counts:
            counted.setdefault(count.agent, {})[count.state] = count.count
        if len(self._known) >= _MAX_TENANTS:
            self._known.clear()
        self._known[tenant] = (now, counted)
        return counted
