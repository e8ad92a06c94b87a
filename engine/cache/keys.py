"""What makes two requests the same: a digest of whom they ask, how, and every byte they give.

Where answers are kept under it is the stores'.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.tensor import Tensor, datatype_of, encode_raw

__all__ = ["KEY_BYTES", "items_tensor", "request_key", "size_of"]

KEY_BYTES = 32
_KIB = 1024


def request_key(scope: Sequence[str], tensors: Mapping[str, Tensor]) -> bytes:
    """The key of a request, 32 bytes; another request has another one.

    Every part is hashed behind its length and every list behind its count, so that no two requests run together to the
    same bytes: ["ab", "c"] is not ["a", "bc"], and neither is a tensor of another shape or datatype.

    Args:
        scope: whom is asked, and for what.
        tensors: the inputs by name, in any order.
    """
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for part in _parts(scope, tensors):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _parts(scope: Sequence[str], tensors: Mapping[str, Tensor]) -> Iterable[bytes]:
    yield len(scope).to_bytes(8, "little")
    for text in scope:
        yield _utf8(text)
    for name in sorted(tensors):
        tensor = tensors[name]
        yield _utf8(name)
        yield datatype_of(tensor).encode()
        yield b"".join(length.to_bytes(8, "little") for length in tensor.shape)
        yield encode_raw(tensor)


def items_tensor(values: Sequence[Any]) -> Tensor | None:
    """Texts, images or rows of numbers as one tensor to be hashed; None for rows of unlike lengths."""
    if not values or isinstance(values[0], str | bytes):
        items: Tensor = np.empty(len(values), object)
        items[:] = [_utf8(value) if isinstance(value, str) else value for value in values]
        return items
    if len({len(row) for row in values}) > 1:
        return None
    return np.array(values, np.float64)


def size_of(tensors: Mapping[str, Tensor]) -> int:
    """How much there is to hash, as `engine.scheduler.aside` counts."""
    return sum(
        tensor.size + sum(map(len, tensor.flat)) // _KIB if tensor.dtype == object else tensor.nbytes // _KIB
        for tensor in tensors.values()
    )


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
