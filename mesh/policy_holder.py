"""The policy that a service holds: streamed from security, kept on disk, and how old it is.

What a policy decides lives in `mesh.policy`; how it changes lives in security.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import grpc.aio
import structlog
from joserfc.errors import JoseError
from tiation.security.v1 import policy_pb2, policy_pb2_grpc

from mesh.channel import Channels, closed_under_it
from mesh.errors import Code, TiationError
from mesh.policy import Policy
from mesh.policy_messages import read_delta, read_snapshot
from mesh.snapshot import Snapshot
from mesh.svid import write_private
from mesh.tokens import Claims, TokenVerifier

__all__ = ["PolicyHolder", "PolicyStaleError"]

_MAX_PAUSE_S = 2.0
_MAX_SILENCE_S = 0.5
"""Between two tries to reach security: what waits for a first policy, or for writes to go on, waits no longer."""
_NEWEST_S = 2.0
"""How long a start waits for security's word before it goes by the policy that was kept."""
_KEEP_SHARE = 10.0
"""A large policy takes a while to write: after each time ten times as long belongs to calls."""


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
        self._lost = False  # true where what is held does not do as the base of a change
        self._verifier: TokenVerifier | None = None
        self._log = structlog.get_logger("mesh.policy")
        self._grown = asyncio.Event()
        self.ready = asyncio.Event()
        self._current = asyncio.Event()
        if path.exists():
            self._restore()

    @property
    def revision(self) -> int:
        """Revision of the policy that is held; 0 while there is none."""
        return self._policy.revision if self._policy else 0

    @property
    def unheard_s(self) -> float:
        """Seconds since security was last heard of."""
        return self._clock() - self._heard

    @property
    def since(self) -> int:
        """The revision to ask for changes of; 0 to ask for the whole policy."""
        return 0 if self._lost else self.revision

    async def started(self) -> None:
        """Wait until there is a policy, and a moment for the newest.

        What was kept may allow what has been revoked since; where security is away, it does all the same.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_NEWEST_S):
                await self._current.wait()
        await self.ready.wait()

    def policy(self, *, for_write: bool = False) -> Policy:
        """The policy that holds.

        Raises:
            PolicyStaleError: there is none, or it is too old for a write.
        """
        if self._policy is None:
            raise PolicyStaleError("the service has not yet received its policy; try again", retry_after_s=1.0)
        if for_write and self.unheard_s > self._stale_s:
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
        keeping = asyncio.create_task(self._keep())
        pause_s = 0.05
        try:
            while True:
                try:
                    stub = channels.stub(policy_pb2_grpc.PolicyServiceStub, "security")
                    request = policy_pb2.StreamPolicyRequest(since_revision=self.since, deltas=True)
                    stream = stub.StreamPolicy(request)
                    async for answer in stream:
                        pause_s = 0.05
                        if not self.take(answer):
                            stream.cancel()
                            break
                except grpc.aio.AioRpcError as error:
                    self._log.warning("policy stream broke", error=error.details(), code=error.code().name)
                except asyncio.CancelledError:
                    if not closed_under_it():
                        raise
                    self._log.warning("policy stream broke", error="its channel was closed")
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter is no secret
                pause_s = min(pause_s * 2, _MAX_SILENCE_S)
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    def take(self, answer: policy_pb2.StreamPolicyResponse) -> bool:
        """Take in what security sends; false where it does not fit to what is held, and all must be asked for."""
        if answer.HasField("snapshot"):
            self._hold(read_snapshot(answer.snapshot))
            self._lost = False
            self._log.info("policy received", revision=self.revision)
        elif answer.HasField("delta"):
            delta = read_delta(answer.delta)
            if self._policy is None or delta.base != self.revision:
                self._log.warning("policy change passed over", base=delta.base, held=self.revision)
                self._lost = True
                return False
            self._policy.apply(delta)
            if delta.changed.jwks:
                self._verifier = TokenVerifier(delta.changed.jwks, issuer=self._issuer)
            self._log.info("policy changed", revision=self.revision)
            self._grown.set()
        self._heard = self._clock()
        self._current.set()
        return True

    async def _keep(self) -> None:
        """Keep the policy on disk; while changes come fast, the newest after a while."""
        while True:
            await self._grown.wait()
            self._grown.clear()
            if self._policy is None:
                continue
            began = self._clock()
            snapshot = self._policy.snapshot()
            try:
                await asyncio.to_thread(self._write, snapshot)
            except OSError as error:
                self._log.warning("policy not kept", error=str(error))
            await asyncio.sleep(min(_MAX_PAUSE_S, _KEEP_SHARE * (self._clock() - began)))

    def _write(self, snapshot: Snapshot) -> None:
        write_private(self._path, snapshot.to_json().decode())

    def _restore(self) -> None:
        try:
            kept = Snapshot.from_json(self._path.read_bytes())
            self._hold(kept)
            self._lost = bool(kept.principals) and not kept.accounts  # an earlier release kept it and knew less
        except (OSError, ValueError, KeyError, TypeError, JoseError) as error:
            self._log.warning("kept policy not usable; waiting for security", error=str(error))

    def _hold(self, snapshot: Snapshot) -> None:
        self._verifier = TokenVerifier(snapshot.jwks, issuer=self._issuer)
        self._policy = Policy(snapshot)
        self._grown.set()
        self.ready.set()
