"""Where answers are kept: one suite for both stores, then what each does when it is full, away or slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import redis as client
from prometheus_client import CollectorRegistry

from engine.adapters.answers_in_memory import MemoryAnswers
from engine.adapters.answers_in_redis import RedisAnswers
from engine.cache.figures import StoreFigures
from engine.cache.ports import AnswerStore
from engine.errors import CacheUrlError
from tests.fakes.redis import Redis, redis_server

KEYS = [bytes([number]) * 32 for number in range(80)]
MAX_VALUE = 4096


class Counted:
    """Figures, and what they say."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.figures = StoreFigures(self.registry)

    def unkept(self, cause: str) -> float:
        return self.registry.get_sample_value("tiation_cache_unkept_total", {"cause": cause}) or 0.0


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with redis_server() as server:
        yield server


def in_redis(url: str, counted: Counted, *, ttl_s: float = 60.0, clock: Callable[[], float] = time.monotonic):
    return RedisAnswers(url, ttl_s=ttl_s, max_value_bytes=MAX_VALUE, figures=counted.figures, clock=clock)


@pytest.fixture(params=["memory", "redis"])
async def store(request, counted: Counted) -> AsyncIterator[AnswerStore]:
    if request.param == "memory":
        made: AnswerStore = MemoryAnswers(1 << 20, MAX_VALUE, counted.figures)
    else:
        server: Redis = request.getfixturevalue("redis")
        with client.Redis.from_url(server.url) as direct:
            direct.flushall()
        made = in_redis(server.url, counted)
    yield made
    await made.close()


async def kept(store: AnswerStore, key: bytes, value: bytes) -> bytes | None:
    """What a store gives for a key, once it has had the time to keep the value."""
    for _ in range(200):
        if await store.get(key) == value:
            return value
        await asyncio.sleep(0.01)
    return await store.get(key)


@pytest.mark.parametrize("value", [b"", b"\x00\xff" * 100, b"x" * MAX_VALUE])
async def test_what_is_put_is_got_under_its_key_alone(store: AnswerStore, value: bytes):
    assert await store.get(KEYS[0]) is None
    store.put(KEYS[0], value)
    assert await kept(store, KEYS[0], value) == value
    assert await store.get(KEYS[1]) is None


async def test_what_is_put_again_takes_the_place_of_what_was_there(store: AnswerStore):
    store.put(KEYS[0], b"old")
    assert await kept(store, KEYS[0], b"old") == b"old"
    store.put(KEYS[0], b"new")
    assert await kept(store, KEYS[0], b"new") == b"new"


async def test_too_large_a_value_is_not_kept_and_counted(store: AnswerStore, counted: Counted):
    store.put(KEYS[0], b"x" * (MAX_VALUE + 1))
    store.put(KEYS[1], b"small")
    assert await kept(store, KEYS[1], b"small")
    assert await store.get(KEYS[0]) is None
    assert counted.unkept("too_large") == 1


async def test_many_at_once_each_get_their_own(store: AnswerStore):
    for key in KEYS[:40]:
        store.put(key, key * 3)
    for key in KEYS[:40]:
        assert await kept(store, key, key * 3)
    assert await asyncio.gather(*(store.get(key) for key in KEYS[:40] * 5)) == [key * 3 for key in KEYS[:40] * 5]


async def test_memory_stays_within_its_bytes_and_the_least_asked_goes_first(counted: Counted):
    store = MemoryAnswers(10 * (1000 + 256), 2000, counted.figures)
    for key in KEYS[:10]:
        store.put(key, b"x" * 1000)
    await store.get(KEYS[0])
    store.put(KEYS[10], b"x" * 1000)
    assert await store.get(KEYS[0])
    assert await store.get(KEYS[1]) is None
    assert counted.registry.get_sample_value("tiation_cache_bytes") == 10 * 1256
    store.put(KEYS[0], b"")
    assert counted.registry.get_sample_value("tiation_cache_bytes") == 9 * 1256 + 256
    await store.close()
    assert counted.registry.get_sample_value("tiation_cache_bytes") == 0


async def test_redis_forgets_after_its_time(redis: Redis, counted: Counted):
    store = in_redis(redis.url, counted, ttl_s=0.2)
    store.put(KEYS[20], b"value")
    assert await kept(store, KEYS[20], b"value")
    await asyncio.sleep(0.3)
    assert await store.get(KEYS[20]) is None
    await store.close()


async def test_what_redis_has_under_another_questions_key_is_no_answer(redis: Redis, counted: Counted):
    store = in_redis(redis.url, counted)
    with client.Redis.from_url(redis.url) as direct:
        direct.set(b"tiation:answer:" + KEYS[30], KEYS[31] + b"for another question")
        direct.set(b"tiation:answer:" + KEYS[32], KEYS[32] + b"x" * (MAX_VALUE + 1))
    assert await store.get(KEYS[30]) is None
    assert await store.get(KEYS[32]) is None
    assert counted.unkept("invalid") == 2
    await store.close()


async def test_a_redis_that_is_killed_delays_nobody_is_left_alone_and_comes_back(redis: Redis, counted: Counted):
    now = [0.0]
    store = in_redis(redis.url, counted, clock=lambda: now[0])
    store.put(KEYS[40], b"value")
    assert await kept(store, KEYS[40], b"value")
    redis.kill()
    try:
        began = time.perf_counter()
        for _ in range(50):
            assert await store.get(KEYS[40]) is None
            store.put(KEYS[41], b"value")
        assert time.perf_counter() - began < 1.0
        assert 3 <= counted.unkept("unreachable") <= 10
        await asyncio.sleep(0.05)
        assert counted.unkept("skipped") >= 40
    finally:
        redis.start()
    assert await store.get(KEYS[40]) is None
    for _ in range(8):  # however often it had failed, after half a minute it is tried again
        now[0] += 31
        await store.get(KEYS[40])
    store.put(KEYS[40], b"again")
    assert await kept(store, KEYS[40], b"again") == b"again"
    await store.close()


async def test_a_redis_that_answers_nothing_delays_each_of_the_first_requests_by_a_tenth_of_a_second(
    redis: Redis, counted: Counted
):
    store = in_redis(redis.url, counted)
    store.put(KEYS[50], b"value")
    assert await kept(store, KEYS[50], b"value")
    redis.freeze()
    try:
        began = time.perf_counter()
        assert await asyncio.gather(*(store.get(KEYS[50]) for _ in range(40))) == [None] * 40
        assert time.perf_counter() - began < 0.5
        began = time.perf_counter()
        for _ in range(100):
            await store.get(KEYS[50])
        assert time.perf_counter() - began < 0.5
        assert counted.unkept("slow") + counted.unkept("unreachable") >= 3
        for _ in range(200):
            store.put(KEYS[51], b"value")
    finally:
        redis.thaw()
    await store.close()


async def test_what_waits_to_be_written_is_bounded(redis: Redis, counted: Counted):
    store = in_redis(redis.url, counted)
    for key in KEYS[:80]:
        store.put(key, b"value")
    assert counted.unkept("busy") == 16
    assert await kept(store, KEYS[63], b"value")
    await store.close()


@pytest.mark.parametrize("url", ["http://:s3cret@cache", "cache:6379", "redis://:s3cret@cache:many/0"])
async def test_a_url_that_is_none_is_refused_without_its_password(url: str, counted: Counted):
    with pytest.raises(CacheUrlError, match=r"engine\.cache_redis is no URL of Redis") as caught:
        in_redis(url, counted)
    assert "s3cret" not in caught.value.message
    assert caught.value.__suppress_context__


async def test_a_wrong_password_is_as_if_redis_were_away(redis: Redis, counted: Counted):
    store = in_redis(f"redis://:wrong@127.0.0.1:{redis.port}/0", counted)
    assert await store.get(KEYS[0]) is None
    assert counted.unkept("unreachable") == 1
    await store.close()
