"""Answers that can only be what a schema or a grammar allows: before each token, those that cannot come are ruled out.

llguidance does the work (a parser of bytes over the tokenizer's trie); it reads no file and asks no network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray
from tokenizers import Tokenizer

from engine.errors import SamplingError

__all__ = ["COMPACT", "Constraint", "Constraints"]

_MAX_BYTES = 64 * 1024
COMPACT: Mapping[str, Any] = {"whitespace_flexible": True, "whitespace_pattern": " "}
"""JSON with a space between its parts at most: a model that is free to would go on with spaces for ever."""


class Constraint:
    """What one answer may be, as far as it has come. Used by one thread at a time."""

    def __init__(self, matcher: LLMatcher, vocabulary: int, field: str) -> None:
        self._field = field
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._forbidden: NDArray[np.bool_] | None = None

    def look_ahead(self) -> None:
        """Find out what cannot come next, ahead of `forbid`; what goes wrong is told there."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if not self._matcher.is_error():
            self._forbidden = np.unpackbits(bits, count=self._vocabulary, bitorder="little") == 0

    def forbid(self, logits: NDArray[np.float32]) -> None:
        """Make everything that cannot come next -inf, in place; float32 (vocabulary,).

        Raises:
            SamplingError: the grammar is more than can be followed.
        """
        if self._forbidden is None:
            self.look_ahead()
        self._check()
        if self._forbidden is not None:
            np.copyto(logits, -np.inf, where=self._forbidden)

    def take(self, token: int) -> bool:
        """A token was made; whether nothing can follow it.

        Raises:
            SamplingError: as `forbid`.
        """
        self._forbidden = None
        self._matcher.consume_token(token)
        self._check()
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise SamplingError(self._field, f"cannot be followed any further: {_short(self._matcher.get_error())}")


class Constraints:
    """Makes constraints for a model's tokens.

    Args:
        tokenizer: the model's.
        vocabulary: how many tokens it gives logits of.
        ends: tokens that end an answer; at least one.
    """

    def __init__(self, tokenizer: Tokenizer, vocabulary: int, ends: Sequence[int]) -> None:
        self._vocabulary = vocabulary
        self._tokens = LLTokenizer(tokenizer.to_str(), n_vocab=vocabulary, eos_token=list(ends))

    def json(self, schema: Mapping[str, Any]) -> Constraint:
        """Of JSON that a schema allows. Blocks while it is made ready, some milliseconds; call it in a thread.

        Raises:
            SamplingError: the schema is none, too large, or uses what is not supported.
        """
        try:
            text = json.dumps(schema)
        except (TypeError, ValueError, RecursionError):
            raise SamplingError("json_schema", "is no JSON, or nested too deeply") from None
        if len(text) > _MAX_BYTES:
            raise SamplingError("json_schema", f"is {len(text)} bytes; at most {_MAX_BYTES} are taken")
        try:
            grammar = LLMatcher.grammar_from_json_schema(text, overrides=cast("Any", COMPACT))
        except ValueError as error:
            raise SamplingError("json_schema", f"cannot be used: {_short(str(error))}") from None
        return self._made(grammar, "json_schema")

    def grammar(self, lark: str, field: str) -> Constraint:
        """Of a text in Lark's form. Blocks as `json` does.

        Raises:
            SamplingError: as `json`, for this field.
        """
        if len(lark) > 4 * _MAX_BYTES:
            raise SamplingError(field, f"come to {len(lark)} bytes; at most {4 * _MAX_BYTES} are taken")
        return self._made(LLMatcher.grammar_from_lark(lark), field)

    def _made(self, grammar: str, field: str) -> Constraint:
        matcher = LLMatcher(self._tokens, grammar, log_level=0)
        made = Constraint(matcher, self._vocabulary, field)
        if not matcher.is_error():
            made.look_ahead()  # what cannot even begin is told before anything is streamed
        if matcher.is_error():
            raise SamplingError(field, f"cannot be used: {_short(matcher.get_error())}")
        return made


def _short(text: str) -> str:
    """The first words of llguidance's message, without the state of its parser."""
    return " ".join(text.split("<state>", maxsplit=1)[0].split())[:300]
