"""The form of a decoder's graph: which input is what, how many layers it has, how wide its keys and values are.

Exporters call the same things differently; what is found here is all that the rest of the package knows of a graph.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.errors import ManifestError, ModelFileError
from engine.tensor import DATATYPES, TensorSpec

__all__ = ["CacheSpec", "DecoderForm", "read_form"]

_IDS = ("input_ids",)
_MASK = ("attention_mask",)
_POSITIONS = ("position_ids",)
_LAST = ("num_logits_to_keep", "logits_to_keep")
_CACHE_NAME = re.compile(
    r"^(?P<when>past|present|pkv|new)(?:_?key_?values?(?=[._]\d))?[._]?(?P<before>key|value)?[._]?(?P<layer>\d+)"
    r"(?:[._](?:decoder|self))?(?:[._]?(?P<after>key|value|k|v))?$"
)
_FLOATS = ("FP32", "FP16")


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """One tensor of keys or values: the input that takes it and the output that gives it, grown.

    Attributes:
        past: the input, (rows, heads, past tokens, width).
        present: the output, as long as past and new tokens together.
        heads: how many heads keys have; queries may have more.
        width: numbers of a head.
    """

    past: str
    present: str
    heads: int
    width: int


@dataclass(frozen=True, slots=True)
class DecoderForm:
    """What a decoder takes and gives.

    Attributes:
        ids: the input of token ids, int64 (rows, new).
        mask: the input that is 1 for a token and 0 for none, int64 (rows, past + new).
        positions: the input of positions, int64 (rows, new); None where the graph works them out.
        last: the input that says of how many positions logits are wanted; None where it gives them of all.
        logits: the output, (rows, new, vocabulary).
        vocabulary: how many tokens there are.
        cache: keys and values of each layer.
        dtype: of the keys and values.
    """

    ids: str
    mask: str
    positions: str | None
    last: str | None
    logits: str
    vocabulary: int
    cache: tuple[CacheSpec, ...]
    dtype: np.dtype[Any]

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return len(self.cache) // 2

    @property
    def token_bytes(self) -> int:
        """What one token takes in the cache."""
        return sum(each.heads * each.width for each in self.cache) * self.dtype.itemsize


def read_form(
    file: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], *, kv_heads: int = 0, head_dim: int = 0
) -> DecoderForm:
    """Find out what is what.

    Args:
        file: the graph's, for errors.
        inputs: of the graph.
        outputs: of the graph.
        kv_heads: as the manifest says, for graphs that leave it open.
        head_dim: as above.

    Raises:
        ModelFileError: the graph is no decoder with past and present keys and values.
        ManifestError: a length is open, and the manifest must say it.
    """
    pasts, rest = _parted(inputs, ("past", "pkv"))
    presents, others = _parted(outputs, ("present", "new"))
    if not pasts or pasts.keys() != presents.keys():
        raise ModelFileError(
            f"{file}: is no decoder: it must take `past_key_values.N.key` and `.value` and give `present.N.key` and "
            f"`.value` for each layer, and it takes {_names(inputs)}; export it with its cache (optimum: "
            "--task text-generation-with-past)",
            file=file,
        )
    logits = next((spec for spec in others if spec.name == "logits"), None)
    ids, mask = (_one_of(rest, names) for names in (_IDS, _MASK))
    if logits is None or ids is None or mask is None or len(logits.shape) != 3:
        raise ModelFileError(
            f"{file}: is no decoder: it must take `input_ids` and `attention_mask` and give `logits` of three axes",
            file=file,
        )
    positions, last = _one_of(rest, _POSITIONS), _one_of(rest, _LAST)
    known = {ids, mask, positions, last}
    if strange := [spec.name for spec in rest if spec.name not in known]:
        raise ModelFileError(f"{file}: takes {strange[0]!r}, which nothing is known to be fed with", file=file)
    kinds = {spec.datatype for spec in (*pasts.values(), *presents.values())}
    if len(kinds) != 1 or not kinds <= set(_FLOATS):
        raise ModelFileError(
            f"{file}: its cache must be all FP32 or all FP16, and is {', '.join(sorted(kinds))}", file=file
        )
    cache = tuple(
        CacheSpec(spec.name, presents[key].name, *_measures(spec, kv_heads, head_dim))
        for key, spec in sorted(pasts.items())
    )
    if logits.shape[2] < 1:
        raise ModelFileError(f"{file}: `logits` does not say how many tokens there are; export it with that", file=file)
    dtype = np.dtype(DATATYPES[kinds.pop()])
    return DecoderForm(ids, mask, positions, last, logits.name, logits.shape[2], cache, dtype)


def _parted(
    specs: Sequence[TensorSpec], prefixes: Sequence[str]
) -> tuple[Mapping[tuple[int, str], TensorSpec], list[TensorSpec]]:
    """Keys and values by layer and part, and what is neither."""
    found: dict[tuple[int, str], TensorSpec] = {}
    rest: list[TensorSpec] = []
    for spec in specs:
        match = _CACHE_NAME.match(spec.name)
        part = (match["before"] or match["after"] or "")[:1] if match else ""
        if match is None or not part or match["when"] not in prefixes or len(spec.shape) != 4:
            rest.append(spec)
        else:
            found[int(match["layer"]), part] = spec
    return found, rest


def _measures(spec: TensorSpec, kv_heads: int, head_dim: int) -> tuple[int, int]:
    """Heads and width of a cache tensor.

    Raises:
        ManifestError: it leaves one open.
    """
    heads, width = (
        (spec.shape[1] if spec.shape[1] > 0 else kv_heads),
        (spec.shape[3] if spec.shape[3] > 0 else head_dim),
    )
    if heads < 1:
        raise ManifestError(f"{spec.name} does not say how many heads it has; add the line `kv_heads: 8`")
    if width < 1:
        raise ManifestError(f"{spec.name} does not say how wide a head is; add the line `head_dim: 64`")
    return heads, width


def _one_of(specs: Sequence[TensorSpec], names: Sequence[str]) -> str | None:
    return next((spec.name for spec in specs if spec.name in names), None)


def _names(specs: Sequence[TensorSpec]) -> str:
    shown = [spec.name for spec in specs[:6]]
    return ", ".join(shown) + (", …" if len(specs) > len(shown) else "")
