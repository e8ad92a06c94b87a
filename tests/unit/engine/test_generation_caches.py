"""Caches of keys and values: rows picked, cut, padded and put together, in memory and where a device keeps them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.generation.cache import Cache, Part, joined
from engine.generation.device_cache import DeviceCaches
from engine.generation.form import CacheSpec, DecoderForm
from engine.runtime.kept import Kept
from engine.runtime.sessions import SessionSettings

FORMS = [
    DecoderForm(
        "ids", "mask", None, None, "logits", 9, tuple(CacheSpec(f"p{at}", f"q{at}", 2, 3) for at in (0, 1)), dtype
    )
    for dtype in (np.dtype(np.float32), np.dtype(np.float16))
]


@pytest.fixture(scope="module", params=FORMS, ids=["FP32", "FP16"])
def caches(request) -> Iterator[tuple[DecoderForm, DeviceCaches]]:
    device = DeviceCaches(request.param, SessionSettings())
    yield request.param, device
    device.close()


def cache_of(form: DecoderForm, lengths: list[int], seed: int) -> Cache:
    """A cache whose numbers all differ; padding holds numbers too, which nobody may see."""
    random = np.random.default_rng(seed)
    shape = (len(lengths), 2, max(lengths), 3)
    return Cache([random.random(shape).astype(form.dtype) for _ in form.cache], np.array(lengths, np.int64))


def expected(part: Part, at: int) -> list[np.ndarray]:
    """The tokens of each row of a part, cut out one by one."""
    found = []
    for row in part.rows:
        length, end = int(part.cache.lengths[row]), part.cache.tokens - part.drop
        found.append(np.asarray(part.cache.tensors[at])[row, :, end - (length - part.drop) : end])
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(0, 1), st.randoms()),
        min_size=1,
        max_size=3,
    )
)
def test_rows_keep_their_tokens_however_caches_are_put_together(caches, plan):
    form, device = caches
    parts = []
    for seed, (lengths, drop, random) in enumerate(plan):
        rows = random.sample(range(len(lengths)), random.randint(1, len(lengths)))
        parts.append(Part(cache_of(form, lengths, seed), rows, min(drop, min(lengths) - 1)))
    for found in (joined(parts), device.joined(parts)):
        assert found.tokens == max(found.lengths)
        for at in range(len(form.cache)):
            given_back = found.tensors[at]
            tensor = given_back.array() if isinstance(given_back, Kept) else given_back
            wanted = [row for part in parts for row in expected(part, at)]
            assert tensor.dtype == form.dtype
            assert len(tensor) == len(wanted)
            for row, tokens in zip(tensor, wanted, strict=True):
                assert (row[:, len(row[0]) - tokens.shape[1] :] == tokens).all()


def test_a_cache_that_is_taken_whole_is_not_copied(caches):
    form, device = caches
    cache = cache_of(form, [3, 2], 1)
    assert joined([Part(cache, [0, 1])]) is cache
    assert device.joined([Part(cache, [0, 1])]) is cache


def test_a_mask_made_once_is_the_mask_of_every_step(caches):
    form, _ = caches
    cache = cache_of(form, [3, 1], 1)
    for new in range(1, 20):
        mask = cache.mask(3 + new, cache.lengths + new)
        assert mask.tolist() == [[1] * (3 + new), [0, 0] + [1] * (1 + new)]
