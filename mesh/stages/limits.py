"""How much a principal, and its tenant in all, may ask for: token buckets and calls under way, in this process.

Only calls that somebody makes with a token of their own count. A call for a run does not: the run was counted when it
was created, and a step that is refused would undo what was admitted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from mesh.call import Call
from mesh.errors import Code, QuotaViolation, TiationError
from mesh.policy import PLATFORM
from mesh.snapshot import Limits

__all__ = ["LimitStage", "LimitsOf", "RateLimitedError"]

_MAX_KEPT = 20_000


class LimitsOf(Protocol):
    """Knows who has which limits."""

    def limits_of(self, subject: str, tenant: str) -> tuple[Limits | None, Limits | None]:
        """The principal's and its tenant's; None for what the settings say."""


class RateLimitedError(TiationError):
    """Too much was asked for at once; the same call succeeds later."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "RATE_LIMITED"


class _Account:
    """What somebody has used: tokens left in the bucket, and calls under way."""

    __slots__ = ("filled", "left", "limits", "under_way")

    def __init__(self, limits: Limits, now: float) -> None:
        self.limits = limits
        self.left = float(limits.burst or limits.requests_per_second)
        self.filled = now
        self.under_way = 0

    def wait_s(self, now: float) -> float:
        """Seconds until there is a token in the bucket; 0 where there is one, or none is needed."""
        rate = self.limits.requests_per_second
        if not rate:
            return 0.0
        self.left = min(float(self.limits.burst or rate), self.left + (now - self.filled) * rate)
        self.filled = now
        return 0.0 if self.left >= 1.0 else (1.0 - self.left) / rate

    def follow(self, limits: Limits) -> None:
        """Go on under other limits; what was used stays used."""
        if not self.limits.requests_per_second:
            self.left = float(limits.burst or limits.requests_per_second)
        self.limits = limits


class LimitStage:
    """Counts calls and refuses what is too much.

    Args:
        policy: who has which limits; asked at every call, because they change.
        each: what a principal may ask for whose tenant says nothing.
        total: what a tenant may ask for that says nothing.
        clock: a monotonic clock, seconds.
    """

    def __init__(
        self,
        policy: Callable[[], LimitsOf],
        each: Limits,
        total: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._each = each
        self._total = total
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def enter(self, call: Call) -> None:
        """Count a call in, or refuse it.

        Raises:
            RateLimitedError: the principal, or its tenant in all, has used up what it may.
        """
        caller = call.caller
        if caller is None or not caller.is_user:
            return
        own, shared = self._policy().limits_of(caller.subject, caller.tenant)
        own, shared = own or self._each, shared or self._total
        limited: tuple[_Account, ...] = ()
        now = self._clock()
        for name, limits in ((caller.subject, own), (f"{PLATFORM}/{caller.tenant}", shared)):
            if limits.requests_per_second or limits.concurrent_calls:
                account = self._account(name, limits, now)
                if limits.requests_per_second or account.under_way >= limits.concurrent_calls:
                    self._check(name, account, now)
                limited += (account,)
        for account in limited:
            account.left -= 1.0
            account.under_way += 1
        call.counted = limited

    @staticmethod
    def leave(call: Call) -> None:
        """Count a call out."""
        for account in call.counted:
            account.under_way -= 1
        call.counted = ()

    def _account(self, name: str, limits: Limits, now: float) -> _Account:
        account = self._accounts.get(name)
        if account is None:
            if len(self._accounts) >= _MAX_KEPT:
                self._accounts = {key: kept for key, kept in self._accounts.items() if kept.under_way}
            account = self._accounts[name] = _Account(limits, now)
        elif account.limits is not limits:
            account.follow(limits)
        return account

    @staticmethod
    def _check(name: str, account: _Account, now: float) -> None:
        limits = account.limits
        wait_s = account.wait_s(now)
        if wait_s:
            what = f"{limits.requests_per_second} calls a second"
        elif limits.concurrent_calls and account.under_way >= limits.concurrent_calls:
            what, wait_s = f"{limits.concurrent_calls} calls at the same time", 1.0
        else:
            return
        raise RateLimitedError(
            f"{name} may make {what}; try again in {max(wait_s, 0.001):.3f} s, or ask for more",
            retry_after_s=wait_s,
            quota=(QuotaViolation(name, what),),
            subject=name,
        )
