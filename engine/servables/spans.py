"""Tags of tokens put together into entities: which characters of a text they are, and how sure the model is.

Tags follow IOB, IOBES or BILOU (`B-PER`, `I-PER`, …), or have no prefix at all. Offsets count characters (Unicode code
points), not bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Aggregation", "Entity", "TokenSpans", "entities_of"]

Aggregation: TypeAlias = Literal["simple", "first", "average", "max"]

_BEGINS = frozenset("BSU")
_ENDS = frozenset("ESLU")
_PREFIXES = frozenset("BIESLU")


@dataclass(frozen=True, slots=True)
class Entity:
    """A piece of a text that has a name.

    Attributes:
        label: what it is, without prefix.
        score: how sure the model is, from 0 to 1: the mean of its words.
        start: its first character.
        end: the character after its last.
    """

    label: str
    score: float
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """Where the tokens of a text are.

    Attributes:
        offsets: first character and the one after the last, of each token.
        words: the word that each token belongs to; None where it belongs to none.
    """

    offsets: Sequence[tuple[int, int]]
    words: Sequence[int | None]


@dataclass(frozen=True, slots=True)
class _Word:
    """What is tagged as one: a word, or a token where each stands for itself."""

    prefix: str
    label: str
    score: float
    start: int
    end: int


def entities_of(
    table: NDArray[np.float32],
    names: Sequence[str],
    spans: TokenSpans,
    text: str,
    *,
    outside: str = "O",
    aggregation: Aggregation = "first",
) -> list[Entity]:
    """The entities of a text, in its order; none overlap.

    Args:
        table: how likely each token has each tag, float32 (tokens, tags).
        names: of the tags.
        spans: where the tokens are.
        text: the text.
        outside: the tag of what is no entity.
        aggregation: how the tokens of a word become one.
    """
    found: list[Entity] = []
    open_: list[_Word] = []
    for word in (*_words(table, names, spans, outside, aggregation), None):
        goes_on = (
            word is not None
            and bool(open_)
            and word.label == open_[-1].label
            and word.prefix not in _BEGINS
            and open_[-1].prefix not in _ENDS
        )
        if open_ and not goes_on:
            entity = _joined(open_, text)
            if entity is not None:
                found.append(entity)
            open_ = []
        if word is not None and word.label:
            open_.append(word)
    return found


def _words(
    table: NDArray[np.float32], names: Sequence[str], spans: TokenSpans, outside: str, aggregation: Aggregation
) -> Iterator[_Word]:
    tokens = range(len(spans.offsets))
    if aggregation == "simple":
        groups = [[at] for at in tokens]
    else:  # a token of no word stands for itself
        keys = [(-1 - at if spans.words[at] is None else spans.words[at]) for at in tokens]
        groups = [list(group) for _, group in groupby(tokens, key=lambda at: keys[at])]
    best, scores = table.argmax(axis=1).tolist(), table.max(axis=1).tolist()
    parts = [_parted(name, outside) for name in names]
    for group in groups:
        if aggregation == "average" and len(group) > 1:
            row = table[group].mean(axis=0)
            column, score = int(row.argmax()), float(row.max())
        else:
            decides = max(group, key=scores.__getitem__) if aggregation == "max" else group[0]
            column, score = best[decides], scores[decides]
        prefix, label = parts[column]
        yield _Word(prefix, label, score, spans.offsets[group[0]][0], spans.offsets[group[-1]][1])


def _parted(name: str, outside: str) -> tuple[str, str]:
    """Prefix and label of a tag; no label for what is outside."""
    if name == outside:
        return "", ""
    prefix, dash, label = name.partition("-")
    return (prefix, label) if dash and prefix in _PREFIXES and label else ("I", name)


def _joined(words: Sequence[_Word], text: str) -> Entity | None:
    """One entity, without the spaces around it that some tokenizers count in; None where nothing else is left."""
    start, end = words[0].start, words[-1].end
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    end -= len(piece) - len(piece.rstrip())
    if start >= end:
        return None
    return Entity(words[0].label, sum(word.score for word in words) / len(words), start, end)
