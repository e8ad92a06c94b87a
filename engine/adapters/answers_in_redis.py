"""Kept answers in Redis, for several engines. It is a help and no more: away or slow, it keeps nobody waiting.

After some failures in a row Redis is left alone for a while, twice as long each time, up to half a minute; then one
request tries it again. (The circuit breaker of M. Nygard, Release It!, chapter 5.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from engine.cache.allowance import Allowance
from engine.cache.figures import StoreFigures, Unkept
from engine.errors import CacheUrlError

__all__ = ["RedisAnswers"]

_PREFIX = b"tiation:answer:"
_GET_S = 0.1
"""The longest that a request waits for Redis."""
_PUT_S = 2.0
"""The longest that an answer is on its way to Redis; nobody waits for that."""
_MAX_CONNECTIONS = 16
_MAX_PUTS = 128
"""Answers on their way at once; further ones are not kept."""
_MAX_OWNER_PUTS = _MAX_PUTS // 2
"""So many of them may be one owner's."""
_FAILURES = 3
_REST_S, _MAX_REST_S = 1.0, 30.0

T = TypeVar("T")


class RedisAnswers:
    """Keeps answers in Redis for a time.

    Each value has its key before it: an answer that came back for another question, for whatever reason, is none.

    Args:
        url: `redis://:PASSWORD@HOST:6379/0`; with `rediss://` over TLS.
        ttl_s: how long an answer is kept.
        max_value_bytes: a larger answer is not kept.
        max_owner_bytes: that one owner may have written within `ttl_s`; 0 for any number.
        figures: counts.
        clock: seconds that only grow.

    Raises:
        CacheUrlError: the URL is none of Redis's.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl_s: float,
        max_value_bytes: int,
        max_owner_bytes: int = 0,
        figures: StoreFigures,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            pool = redis.asyncio.BlockingConnectionPool.from_url(
                url,
                max_connections=_MAX_CONNECTIONS,
                timeout=_GET_S,
                socket_connect_timeout=_PUT_S,
                socket_timeout=_PUT_S,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError:  # its text quotes the URL, a password with it
            raise CacheUrlError from None
        self._redis: redis.asyncio.Redis = redis.asyncio.Redis.from_pool(pool)
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._max_value_bytes = max_value_bytes
        self._figures = figures
        self._clock = clock
        self._failures = 0
        self._rests_until = 0.0
        self._putting: dict[asyncio.Task[None], str] = {}
        self._allowance = Allowance(max_owner_bytes, ttl_s, clock)

    async def get(self, key: bytes) -> bytes | None:
        """What is kept under a key; None, too, where Redis does not say so in time."""
        found = await self._ask(lambda: self._redis.get(_PREFIX + key), _GET_S)
        if found is None:
            return None
        if not isinstance(found, bytes) or not found.startswith(key) or len(found) > len(key) + self._max_value_bytes:
            self._figures.unkept("invalid")
            return None
        return found[len(key) :]

    def put(self, key: bytes, value: bytes, owner: str = "") -> None:
        """Keep something, soon."""
        cause: Unkept | None = None
        if len(value) > self._max_value_bytes:
            cause = "too_large"
        elif len(self._putting) >= _MAX_PUTS or list(self._putting.values()).count(owner) >= _MAX_OWNER_PUTS:
            cause = "busy"
        elif not self._allowance.take(owner, len(key) + len(value)):
            cause = "share"
        if cause is not None:
            self._figures.unkept(cause)
            return
        putting = asyncio.get_running_loop().create_task(self._put(key, value))
        self._putting[putting] = owner
        putting.add_done_callback(self._putting.pop)

    async def close(self) -> None:
        """Leave what is on its way, and go."""
        for putting in list(self._putting):
            putting.cancel()
        await asyncio.gather(*self._putting, return_exceptions=True)
        await self._redis.aclose(close_connection_pool=True)

    async def _put(self, key: bytes, value: bytes) -> None:
        await self._ask(lambda: self._redis.set(_PREFIX + key, key + value, px=self._ttl_ms), _PUT_S)

    async def _ask(self, command: Callable[[], Awaitable[T]], within_s: float) -> T | None:
        """What Redis says; None where it does not, or is left alone."""
        now = self._clock()
        if now < self._rests_until:
            self._figures.unkept("skipped")
            return None
        if self._failures >= _FAILURES:  # this one tries it; whoever comes meanwhile does not wait for it
            self._rests_until = now + within_s
        try:
            async with asyncio.timeout(within_s):
                found = await command()
        except (TimeoutError, RedisTimeoutError):
            self._failed("slow")
            return None
        except (RedisError, OSError):
            self._failed("unreachable")
            return None
        self._failures, self._rests_until = 0, 0.0
        return found

    def _failed(self, cause: Unkept) -> None:
        self._figures.unkept(cause)
        self._failures += 1
        if self._failures >= _FAILURES:
            rest_s = min(_MAX_REST_S, _REST_S * 2 ** min(16, self._failures - _FAILURES))
            self._rests_until = self._clock() + rest_s
