"""Texts as token ids: the tokenizer, texts from a tensor, rows of equal length.

What a graph makes of them is `engine.servables.token_graph`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from engine.errors import ElementError, ModelFileError, TensorError
from engine.scheduler.aside import aside
from engine.tensor import Tensor, TensorSpec

__all__ = ["MAX_TEXTS", "TEXT", "TokenRows", "Tokens", "in_pieces", "open_tokenizer", "padded", "texts_of"]

Item = TypeVar("Item")
Result = TypeVar("Result")

TEXT = TensorSpec("text", "BYTES", (-1,))
_MAX_TEXT_BYTES = 64 * 1024
_TEXT_COSTS = 32
"""To make tokens of a text takes as long as of so many characters, and of its own."""
_PIECE = 128 * 1024
"""So much of a request is made into tokens at once, about a twentieth of a second: then others have their turn."""
MAX_TEXTS = 1024
"""Texts, or rows of tokens, of one request; the contract of `PredictionService` has the same number."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text, or a pair of them, as the model reads it.

    Attributes:
        ids: of the tokens, special ones included.
        types: 0 for the first text and 1 for the second; empty where there is only one.
    """

    ids: Sequence[int]
    types: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Token ids and mask, int64 (n, s); the mask holds 1 for a token and 0 for what is none.

    Attributes:
        ids: of the tokens.
        mask: see above.
        types: which text of a pair a token is of, int64 (n, s); None where no row is a pair.
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    types: NDArray[np.int64] | None = None

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return int(np.add.reduce(self.mask, axis=None))  # as `count_nonzero`, in one call


def padded(sequences: Sequence[Tokens]) -> TokenRows:
    """Rows as long as the longest sequence."""
    width = max((1, *(len(each.ids) for each in sequences)))  # a tokenizer may make nothing of a text
    ids = np.zeros((len(sequences), width), np.int64)
    mask = np.zeros((len(sequences), width), np.int64)
    types = np.zeros((len(sequences), width), np.int64) if any(each.types for each in sequences) else None
    for row, each in enumerate(sequences):
        ids[row, : len(each.ids)] = each.ids
        mask[row, : len(each.ids)] = 1
        if types is not None:
            types[row, : len(each.types)] = each.types
    return TokenRows(ids, mask, types)


async def in_pieces(
    items: Sequence[Item], size: Callable[[Item], int], work: Callable[[list[Item]], list[Result]]
) -> list[Result]:
    """What `work` makes of the items, in order; of much text a part at a time, so that nobody waits for all of it.

    Args:
        items: texts, or pairs of them.
        size: how many characters one has.
        work: makes tokens of some; it may run in a thread.
    """
    made: list[Result] = []
    for piece, costs in _pieces(items, size):
        made += await aside(costs, work, piece)
    return made


def _pieces(items: Sequence[Item], size: Callable[[Item], int]) -> Iterator[tuple[list[Item], int]]:
    """Parts that are small or a single item, each with what it costs."""
    piece: list[Item] = []
    costs = 0
    for item in items:
        more = _TEXT_COSTS + size(item)
        if piece and costs + more > _PIECE:
            yield piece, costs
            piece, costs = [], 0
        piece.append(item)
        costs += more
    if piece:
        yield piece, costs


def texts_of(values: Tensor) -> list[str]:
    """The texts of an input.

    Raises:
        TensorError: there are too many.
        ElementError: one is not UTF-8, or far longer than any model reads.
    """
    if len(values) > MAX_TEXTS:
        raise TensorError("text", f"holds {len(values)} texts; at most {MAX_TEXTS} are taken at once")
    texts = []
    for at, value in enumerate(values):
        if len(value) > _MAX_TEXT_BYTES:
            raise ElementError("text", at, f"is {len(value)} bytes; at most {_MAX_TEXT_BYTES} are read")
        try:
            texts.append(value.decode())
        except UnicodeDecodeError:
            raise ElementError("text", at, "holds bytes that are not UTF-8") from None
    return texts


def open_tokenizer(path: Path, max_tokens: int | None) -> Tokenizer:
    """A tokenizer that cuts texts at so many tokens, or not at all.

    Raises:
        ModelFileError: the file is none, or missing.
    """
    if not path.is_file():
        raise ModelFileError(f"{path.name}: is missing; push the tokenizer together with model.yaml", file=path.name)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 -- the library raises plain Exception
        raise ModelFileError(f"{path.name}: is no tokenizer ({str(error)[:200]})", file=path.name) from None
    if max_tokens is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer
