"""The policy that a service holds: streamed from security, kept on disk, and how old it is.

What a policy decides lives in `mesh.policy`; how it changes lives in security.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path

import grpc.aio
import structlog
from tiation.security.v1 import policy_pb2, policy_pb2_grpc

from mesh.channel import Channels
from mesh.errors import Code, TiationError
from mesh.policy import Binding, Policy, Role, Snapshot
from mesh.svid import write_private
from mesh.tokens import Claims, TokenVerifier

__all__ = ["PolicyHolder", "PolicyStaleError"]

_MAX_PAUSE_S = 2.0


class PolicyStaleError(TiationError):
    """Security has not been heard of for too long, or never."""

    code = Code.UNAVAILABLE
    reason = "POLICY_STALE"


class PolicyHolder:
    """Holds the newest policy.

    Args:
        path: where it survives a restart, `HOME/<service>/policy.json`.
        issuer: the issuer that access tokens must name.
        stale_s: seconds without word from security after which writes are refused.
        clock: a monotonic clock, seconds.
    """

    def __init__(self, path: Path, *, issuer: str, stale_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._issuer = issuer
        self._stale_s = stale_s
        self._clock = clock
        self._heard = clock()
        self._policy: Policy | None = None
        self._verifier: TokenVerifier | None = None
        self._log = structlog.get_logger("mesh.policy")
        self.ready = asyncio.Event()
        if path.exists():
            self._restore()

    @property
    def revision(self) -> int:
        """Revision of the policy that is held; 0 while there is none."""
        return self._policy.revision if self._policy else 0

    def policy(self, *, for_write: bool = False) -> Policy:
        """The policy that holds.

        Raises:
            PolicyStaleError: there is none, or it is too old for a write.
        """
        if self._policy is None:
            raise PolicyStaleError("the service has not yet received its policy; try again", retry_after_s=1.0)
        if for_write and self._clock() - self._heard > self._stale_s:
            raise PolicyStaleError(
                "security has not been heard of; changes wait until it is back, reads go on", retry_after_s=2.0
            )
        return self._policy

    def verify(self, token: str, now: float) -> Claims:
        """Check an access token with the keys that hold now.

        Raises:
            PolicyStaleError: no keys have been received yet.
            TokenError: the token does not hold.
        """
        if self._verifier is None:
            raise PolicyStaleError("the service has not yet received its policy; try again", retry_after_s=1.0)
        return self._verifier.verify(token, now)

    async def follow(self, channels: Channels) -> None:
        """Follow security's stream for ever; when it breaks, ask again from the revision that is held."""
        pause_s = 0.05
        while True:
            try:
                stub = channels.stub(policy_pb2_grpc.PolicyServiceStub, "security")
                request = policy_pb2.StreamPolicyRequest(since_revision=self.revision)
                async for answer in stub.StreamPolicy(request):
                    pause_s = 0.05
                    await self._take(answer)
            except grpc.aio.AioRpcError as error:
                self._log.warning("policy stream broke", error=error.details(), code=error.code().name)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter is no secret
            pause_s = min(pause_s * 2, _MAX_PAUSE_S)

    async def _take(self, answer: policy_pb2.StreamPolicyResponse) -> None:
        if answer.HasField("snapshot"):
            snapshot = _snapshot(answer.snapshot)
            self._hold(snapshot)
            await asyncio.to_thread(write_private, self._path, snapshot.to_json())
            self._log.info("policy received", revision=snapshot.revision)
        self._heard = self._clock()

    def _restore(self) -> None:
        try:
            self._hold(Snapshot.from_json(self._path.read_text()))
        except (OSError, ValueError) as error:
            self._log.warning("kept policy not usable; waiting for security", error=str(error))

    def _hold(self, snapshot: Snapshot) -> None:
        self._policy = Policy(snapshot)
        self._verifier = TokenVerifier(snapshot.jwks, issuer=self._issuer)
        self.ready.set()


def _snapshot(message: policy_pb2.PolicySnapshot) -> Snapshot:
    return Snapshot(
        revision=message.revision,
        jwks=message.jwks,
        tenants=tuple(message.tenants),
        roles=tuple(Role(role.name, tuple(role.permissions)) for role in message.roles),
        bindings=tuple(Binding(b.name, b.principal, b.role, b.resource) for b in message.bindings),
        principals=tuple(message.principals),
    )
