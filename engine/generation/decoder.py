"""A decoder in memory: prompts in, keys and values and the logits of the next token out.

Which rows go into a step, and what is made of the logits, is others'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import InferenceFailedError, InferenceTimeoutError, ModelFileError
from engine.generation.cache import Cache, Part, empty_cache, joined
from engine.generation.device_cache import DeviceCaches
from engine.generation.form import DecoderForm
from engine.runtime.sessions import Session

__all__ = ["Decoder", "pads_alike"]

Logits = NDArray[np.float32]

_ONE = np.array(1, np.int64)

_TRIAL = ((1, 2, 3, 4, 5), (3, 1))
"""Two prompts of different lengths, by token id."""
_TRIAL_S = 10.0


class Decoder:
    """A session and the form of its graph.

    Args:
        session: the graph in memory.
        form: what is what in it.
        device: joins caches on the session's device, where keys and values then stay; None where that is memory.
    """

    def __init__(self, session: Session, form: DecoderForm, *, device: DeviceCaches | None = None) -> None:
        self._device = device
        self._keep = frozenset(each.present for each in form.cache)
        self.form = form
        self._session = session
        self._presents = [each.present for each in form.cache]
        self._pasts = [each.past for each in form.cache]
        self._names = [form.logits, *self._presents]

    def join(self, parts: Sequence[Part]) -> Cache:
        """Parts of caches as one, in this order, no longer than its longest row; at least one row in all."""
        return joined(parts) if self._device is None else self._device.joined(parts)

    def begin(self, prompts: Sequence[Sequence[int]]) -> tuple[Cache, Logits]:
        """Read whole prompts, padded on the left to the longest: their cache, and the logits after each."""
        longest = max(map(len, prompts))
        ids = np.zeros((len(prompts), longest), np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = prompt
        cache = empty_cache(self.form, len(prompts))
        return self.step(cache, ids, np.array([len(prompt) for prompt in prompts], np.int64))

    def step(self, cache: Cache, ids: NDArray[np.int64], new: NDArray[np.int64] | None = None) -> tuple[Cache, Logits]:
        """Read more tokens of each row.

        Args:
            cache: of the rows; it must not be used again.
            ids: int64 (rows, n).
            new: how many of them are a row's own, the last ones, int64 (rows,): less than all only for rows that have
                none yet. None means all.

        Returns:
            The cache with them, and the logits of what comes next, float32 (rows, vocabulary).
        """
        form = self.form
        rows, count = ids.shape
        total, lengths = cache.tokens + count, cache.lengths + (count if new is None else new)
        feeds: dict[str, Any] = dict(zip(self._pasts, cache.tensors, strict=True))
        feeds[form.ids], feeds[form.mask] = ids, cache.mask(total, lengths)
        if form.positions is not None:
            begins = cache.lengths[:, None]
            feeds[form.positions] = begins if count == 1 else np.maximum(lengths[:, None] + np.arange(-count, 0), 0)
        if form.last is not None:
            feeds[form.last] = _ONE
        found = self._run(feeds)
        logits, tensors = found[form.logits], [found[name] for name in self._presents]
        if logits.shape[0] != rows or tensors[0].shape[2] != total:
            raise InferenceFailedError("the model gave a cache of another length than it was asked for")
        return Cache(tensors, lengths, cache.wide), np.ascontiguousarray(logits[:, -1], np.float32)

    def _run(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._device is not None:
            return self._session.run_keeping(feeds, self._names, self._keep, limit_s=self.limit_s)
        return self._session.run(feeds, self._names, limit_s=self.limit_s)

    limit_s = math.inf


def pads_alike(decoder: Decoder, file: str) -> bool:
    """Whether rows of different lengths may share a step: tried once, at load, with tokens of no meaning.

    Graphs with fused attention sometimes take the length of a row from its mask's sum, and then read padding as tokens.

    Raises:
        ModelFileError: it takes too long, or cannot be run at all.
    """
    prompts = [[token % decoder.form.vocabulary for token in prompt] for prompt in _TRIAL]
    decoder.limit_s = _TRIAL_S
    try:
        alone = [_two_steps(decoder, [prompt]) for prompt in prompts]
        try:
            together = _two_steps(decoder, prompts)
        except InferenceTimeoutError:
            raise
        except Exception:  # noqa: BLE001 -- a graph that cannot take two rows gets one at a time
            return False
    except InferenceTimeoutError:
        raise ModelFileError(f"{file}: computes longer than {_TRIAL_S:g} s for a few tokens", file=file) from None
    finally:
        decoder.limit_s = math.inf
    return bool(
        np.allclose(np.concatenate(alone), together, rtol=1e-2, atol=1e-2 if decoder.form.dtype == np.float16 else 1e-3)
    )


def _two_steps(decoder: Decoder, prompts: Sequence[Sequence[int]]) -> Logits:
    """Logits after the prompts and one more token, which see both ways of padding; the rows change places between."""
    cache, _ = decoder.begin(prompts)
    order = list(reversed(range(len(prompts))))
    cache, logits = decoder.step(decoder.join([Part(cache, order)]), np.ones((len(prompts), 1), np.int64))
    return logits[order]
