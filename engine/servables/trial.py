"""What is tried of a graph at load, with values of no meaning: whether rows can share a run, also of different length.

What is done with the answer is `engine.servables.graph`'s.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from engine.errors import ManifestError
from engine.runtime.samples import sample, sample_elements
from engine.runtime.sessions import Session
from engine.servables.padding import Padding
from engine.tensor import Tensor

__all__ = ["TRIAL_S", "padding_is_apart", "rows_are_apart"]

_TRIAL_ELEMENTS = 1 << 22
"""Inputs whose smallest sample has more values than this are not tried, and their rows share no run."""
TRIAL_S = 10.0
"""The longest that what is tried at load may take: nobody else's models change meanwhile."""


def rows_are_apart(session: Session) -> bool:
    """Whether two rows in one run give what they give alone: tried once."""
    if not session.inputs or any(not spec.shape or spec.shape[0] != -1 for spec in session.inputs):
        return False
    if any(not spec.shape or spec.shape[0] != -1 for spec in session.outputs):
        return False
    if sum(map(sample_elements, session.inputs)) > _TRIAL_ELEMENTS:
        return False
    random = np.random.default_rng(7)
    try:
        one, two = ({spec.name: sample(spec, random) for spec in session.inputs} for _ in range(2))
        joined = {name: np.concatenate([one[name], two[name]]) for name in one}
        *alone, together = _run(session, one, two, joined)
    except Exception:  # noqa: BLE001 -- a graph that cannot take our sample is not batched
        return False
    return all(_agree(value, [answer[name] for answer in alone]) for name, value in together.items())


def padding_is_apart(session: Session, padding: Padding) -> str:
    """Whether a short and a long row in one run give what they give alone: tried once.

    Returns:
        Nothing where they do; why it could not be tried, where it could not.

    Raises:
        ManifestError: they do not; the message names the output, and the lines to write.
    """
    random = np.random.default_rng(7)
    samples = padding.samples(random)
    if sum(tensor.size for each in samples for tensor in each.values()) > _TRIAL_ELEMENTS:
        return "its rows are too large to be tried"
    lengths = [padding.length(each) for each in samples]
    try:
        *alone, together = _run(session, *samples, padding.joined(samples, lengths))
    except Exception as error:  # noqa: BLE001 -- the sample means nothing to the graph
        return f"it could not be tried ({type(error).__name__})"
    for at, (answer, length) in enumerate(zip(alone, lengths, strict=True)):
        row = {name: value[at : at + 1] if value.ndim else value for name, value in together.items()}
        for name, value in padding.cut(row, length).items():
            if value.shape != answer[name].shape or not _same(value, answer[name]):
                raise ManifestError(
                    f"padding: `{name}` of a row of {length} is another one once it shares a run with a longer row: "
                    f"{list(answer[name].shape)} alone, {list(value.shape)} then; name the mask (`mask: "
                    f"attention_mask`), cut it back (`cut: {{{name}: 1}}`), or remove the section"
                )
    return ""


def _run(session: Session, *feeds: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    ends = time.monotonic() + TRIAL_S
    return [session.run(each, limit_s=ends - time.monotonic()) for each in feeds]


def _agree(together: Tensor, alone: Sequence[Tensor]) -> bool:
    if together.shape[0] != 2 or any(len(value) != 1 for value in alone):
        return False
    return _same(together, np.concatenate(alone))


def _same(together: Tensor, apart: Tensor) -> bool:
    if together.dtype == object:
        return bool((together == apart).all())
    return bool(np.allclose(together, apart, rtol=1e-3, atol=1e-4, equal_nan=True))
