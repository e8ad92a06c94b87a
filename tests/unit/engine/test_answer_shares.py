"""What one tenant's answers leave of the others': in memory and in Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from engine.adapters.answers_in_memory import MemoryAnswers
from engine.adapters.answers_in_redis import RedisAnswers
from engine.cache.allowance import Allowance
from engine.cache.figures import StoreFigures
from tests.fakes.redis import Redis, redis_server

EACH = 1000 + 256
VALUE = b"x" * 1000


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with redis_server() as server:
        yield server


def key(owner: str, number: int) -> bytes:
    return f"{owner}{number}".encode().ljust(32, b".")


def store(entries: int, now: list[float] | None = None) -> MemoryAnswers:
    clock = (lambda: now[0]) if now is not None else time.monotonic
    return MemoryAnswers(entries * EACH, 4096, StoreFigures(CollectorRegistry()), clock)


async def has(made: MemoryAnswers, owner: str, numbers: range) -> int:
    return sum([await made.get(key(owner, number)) is not None for number in numbers])


async def test_a_tenant_that_asks_without_end_pushes_out_its_own_answers():
    made = store(12)
    for number in range(12):
        made.put(key("loud", number), VALUE, "loud")
    assert await has(made, "loud", range(12)) == 12  # alone it has everything
    for owner in ("ada", "bob"):
        for number in range(4):
            made.put(key(owner, number), VALUE, owner)
    for number in range(1000):
        made.put(key("loud", number), VALUE, "loud")
    assert [await has(made, owner, range(1000)) for owner in ("ada", "bob", "loud")] == [4, 4, 4]


async def test_a_part_that_nobody_asks_for_any_more_is_everybodys():
    now = [0.0]
    made = store(10, now)
    for number in range(5):
        made.put(key("gone", number), VALUE, "gone")
    now[0] = 4000.0
    assert await made.get(key("gone", 0))
    for number in range(9):
        made.put(key("ada", number), VALUE, "ada")
    assert [await has(made, owner, range(9)) for owner in ("gone", "ada")] == [1, 9]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 3000), st.integers(0, 900)), max_size=60
    )
)
async def test_memory_stays_within_its_bytes_and_each_keeps_its_part(steps):
    now, registry = [0.0], CollectorRegistry()
    made = MemoryAnswers(6 * EACH, 4096, StoreFigures(registry), lambda: now[0])
    newest: dict[str, bytes] = {}
    for owner, number, size, pause_s in steps:
        now[0] += pause_s
        made.put(key(owner, number), bytes(size), owner)
        newest[owner] = key(owner, number)
        held = dict(made._kept)
        assert sum(len(entry.value) + 256 for entry in held.values()) <= 6 * EACH
        assert registry.get_sample_value("tiation_cache_bytes") == sum(len(e.value) + 256 for e in held.values())
        assert newest[owner] in held or size + 256 > 2 * EACH  # what is no more than a third part is always kept
        if number % 3 == 0:
            await made.get(newest[owner])
    await made.close()
    assert (made._bytes, made._kept, made._owned) == (0, {}, {})


@given(
    takes=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 700), st.floats(0, 40)), max_size=60),
)
def test_nobody_writes_more_than_the_allowance_within_its_time(takes):
    now = [0.0]
    allowance = Allowance(1000, 60.0, lambda: now[0])
    written: list[tuple[float, str, int]] = []
    for owner, size, pause_s in takes:
        now[0] += pause_s
        if allowance.take(owner, size):
            written.append((now[0], owner, size))
        recent = sum(size for at, who, size in written if who == owner and at > now[0] - 60.0)
        assert recent <= 1000 + 1e-6


async def test_what_one_tenant_writes_to_redis_is_bounded_and_the_others_write_on(redis: Redis):
    registry = CollectorRegistry()
    made = RedisAnswers(
        redis.url, ttl_s=60.0, max_value_bytes=4096, max_owner_bytes=20 * 1032, figures=StoreFigures(registry)
    )
    for number in range(30):
        made.put(key("loud", number), VALUE, "loud")
    made.put(key("ada", 0), VALUE, "ada")
    assert registry.get_sample_value("tiation_cache_unkept_total", {"cause": "share"}) == 20
    for _ in range(200):
        if await made.get(key("ada", 0)):
            break
    assert await made.get(key("ada", 0)) == VALUE
    await made.close()


async def test_one_tenants_answers_on_their_way_leave_room_for_the_others(redis: Redis):
    registry = CollectorRegistry()
    made = RedisAnswers(redis.url, ttl_s=60.0, max_value_bytes=4096, figures=StoreFigures(registry))
    for number in range(200):
        made.put(key("loud", number), VALUE, "loud")
    assert registry.get_sample_value("tiation_cache_unkept_total", {"cause": "busy"}) == 136
    made.put(key("ada", 0), VALUE, "ada")
    assert registry.get_sample_value("tiation_cache_unkept_total", {"cause": "busy"}) == 136
    await made.close()
