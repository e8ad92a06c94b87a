"""PolicyService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from tiation.security.v1 import policy_pb2 as pb
from tiation.security.v1 import policy_pb2_grpc

from mesh.call import Context
from mesh.policy_messages import delta_message, snapshot_message
from security.feed import PolicyFeed

__all__ = ["PolicyServicer"]


class PolicyServicer(policy_pb2_grpc.PolicyServiceServicer):
    """Streams the policy.

    Args:
        feed: the core.
        heartbeat_s: seconds between two heartbeats.
    """

    def __init__(self, feed: PolicyFeed, heartbeat_s: float) -> None:
        self._feed = feed
        self._heartbeat_s = heartbeat_s
        self._whole = pb.PolicySnapshot()

    async def StreamPolicy(self, request: pb.StreamPolicyRequest, _: Context) -> AsyncIterator[pb.StreamPolicyResponse]:
        """The policy, whenever it changes, and heartbeats in between."""
        held = request.since_revision
        while not self._feed.closed:
            news = self._feed.news()
            policy = await self._feed.policy()
            deltas = self._feed.deltas_since(held) if request.deltas and held else None
            if held == policy.revision:
                yield pb.StreamPolicyResponse(revision=held)
            elif deltas is None:
                if self._whole.revision != policy.revision:
                    self._whole = snapshot_message(policy.snapshot())
                held = self._whole.revision
                yield pb.StreamPolicyResponse(revision=held, snapshot=self._whole)
            else:
                for delta in deltas:
                    held = delta.changed.revision
                    yield pb.StreamPolicyResponse(revision=held, delta=delta_message(delta))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat_s):
                    await news.wait()
