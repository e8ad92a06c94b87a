"""PolicyService."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tiation.security.v1 import policy_pb2 as pb
from tiation.security.v1 import policy_pb2_grpc

from mesh.call import Context
from mesh.policy import Snapshot
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

    async def StreamPolicy(self, request: pb.StreamPolicyRequest, _: Context) -> AsyncIterator[pb.StreamPolicyResponse]:
        """The policy, whenever it changes, and heartbeats in between."""
        held = request.since_revision
        while not self._feed.closed:
            snapshot = await self._feed.snapshot()
            if snapshot.revision == held:
                yield pb.StreamPolicyResponse(revision=held)
            else:
                held = snapshot.revision
                yield pb.StreamPolicyResponse(revision=held, snapshot=_message(snapshot))
            await self._feed.news(self._heartbeat_s)


def _message(snapshot: Snapshot) -> pb.PolicySnapshot:
    message = pb.PolicySnapshot(
        revision=snapshot.revision,
        jwks=snapshot.jwks,
        tenants=snapshot.tenants,
        principals=snapshot.principals,
        roles=[pb.PolicyRole(name=role.name, permissions=role.permissions) for role in snapshot.roles],
        bindings=[
            pb.PolicyBinding(name=b.name, principal=b.principal, role=b.role, resource=b.resource)
            for b in snapshot.bindings
        ],
    )
    message.create_time.GetCurrentTime()
    return message
