"""The filter of a list of runs, after AIP-160, and its order, after AIP-132: from text to a tree.

Which SQL they become is `orchestrator.store.conditions`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from mesh.errors import InvalidError

__all__ = ["All", "Any", "Compare", "Not", "Order", "Term", "parse_filter", "parse_order"]

_TEXTS = ("state", "requester", "revision", "schedule", "source_run")
_NAMES = ("requester", "schedule", "source_run")
_NUMBERS = ("priority", "attempt")
_TIMES = ("create_time", "update_time", "start_time", "end_time")
_ORDERED = ("name", "create_time", "update_time", "end_time", "priority")
_COMPARATORS = ("<=", ">=", "!=", "=", "<", ">", ":")
_MAX_DEPTH = 20
_MAX_TERMS = 50
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
        |(?P<word>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-][\d:]{5})|[^\s"'=<>!:()-][^\s"'=<>!:()]*)
        |(?P<sign><=|>=|!=|[=<>:()-])
    )""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_./-]+)?")


@dataclass(frozen=True, slots=True)
class Compare:
    """A field against a value.

    Attributes:
        field: its name; `labels` for a label.
        key: of the label; empty for other fields.
        comparator: `=`, `!=`, `<`, `<=`, `>`, `>=`, or `:` for a label that is there.
        value: of the field's own type.
    """

    field: str
    key: str
    comparator: str
    value: str | int | datetime


@dataclass(frozen=True, slots=True)
class Not:
    """What must not hold."""

    term: Term


@dataclass(frozen=True, slots=True)
class All:
    """All must hold."""

    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """One must hold."""

    terms: tuple[Term, ...]


Term: TypeAlias = Compare | Not | All | Any


@dataclass(frozen=True, slots=True)
class Order:
    """By which field, and which way round; what is equal is ordered by name, the same way round."""

    field: str = "name"
    descending: bool = False


def parse_filter(text: str, states: Collection[str]) -> Term | None:
    """The tree of a filter; None for an empty one.

    Args:
        text: as it was sent.
        states: those that there are.

    Raises:
        InvalidError: it is no filter; the message says where and what may stand there.
    """
    return _Parser(text, states).parse() if text.strip() else None


def parse_order(text: str) -> Order:
    """The order that a list is asked for in.

    Raises:
        InvalidError: there is no such order.
    """
    words = text.split()
    if not words:
        return Order()
    if words[0] not in _ORDERED or words[1:] not in ([], ["asc"], ["desc"]):
        raise InvalidError("order_by", f"must be one of {', '.join(_ORDERED)}, with ` desc` for the other way round")
    return Order(words[0], words[1:] == ["desc"])


class _Parser:
    """Goes through one filter by recursive descent; OR binds tighter than AND, as AIP-160 says."""

    def __init__(self, text: str, states: Collection[str]) -> None:
        self._tokens = list(_tokens(text))
        self._states = states
        self._at = 0
        self._terms = 0

    def parse(self) -> Term:
        term = self._all(0)
        if self._at < len(self._tokens):
            raise self._wrong("expected AND, OR or the end")
        return term

    def _all(self, depth: int) -> Term:
        if depth > _MAX_DEPTH:
            raise self._wrong(f"is nested deeper than {_MAX_DEPTH} levels")
        terms = [self._any(depth)]
        while self._at < len(self._tokens) and self._peek() != (")", "sign"):
            self._skip_word("AND")  # two terms side by side mean AND too
            terms.append(self._any(depth))
        return terms[0] if len(terms) == 1 else All(tuple(terms))

    def _any(self, depth: int) -> Term:
        terms = [self._not(depth)]
        while self._skip_word("OR"):
            terms.append(self._not(depth))
        return terms[0] if len(terms) == 1 else Any(tuple(terms))

    def _not(self, depth: int) -> Term:
        if self._skip_word("NOT") or self._skip_sign("-"):
            return Not(self._one(depth))
        return self._one(depth)

    def _one(self, depth: int) -> Term:
        if self._skip_sign("("):
            term = self._all(depth + 1)
            if not self._skip_sign(")"):
                raise self._wrong("a `)` is missing")
            return term
        self._terms += 1
        if self._terms > _MAX_TERMS:
            raise self._wrong(f"has more than {_MAX_TERMS} comparisons")
        return self._compare()

    def _compare(self) -> Compare:
        name, kind = self._peek()
        field, _, key = name.partition(".")
        known = kind == "word" and _WORD.fullmatch(name) is not None
        if not known or not (key if field == "labels" else not key and field in (*_TEXTS, *_NUMBERS, *_TIMES)):
            names = ", ".join((*_TEXTS, "labels.KEY", *_NUMBERS, *_TIMES))
            raise self._wrong(f"expected one of {names}")
        self._at += 1
        comparator, kind = self._peek()
        ordered = field in _NUMBERS or field in _TIMES
        allowed = ("=", "!=", "<", "<=", ">", ">=") if ordered else ("=", "!=", ":") if key else ("=", "!=")
        if kind != "sign" or comparator not in allowed:
            raise self._wrong(f"expected one of {' '.join(allowed)} after `{name}`")
        self._at += 1
        value, kind = self._peek()
        if kind not in ("text", "word"):
            raise self._wrong(f"expected a value after `{name} {comparator}`; texts stand in quotes")
        typed = self._value(field, comparator, value)
        self._at += 1
        return Compare(field, key, comparator, typed)

    def _value(self, field: str, comparator: str, text: str) -> str | int | datetime:
        if comparator == ":" and text != "*":
            raise self._wrong("expected * after `:`; `labels.KEY:*` holds for whatever has the label")
        if field == "state" and text not in self._states:
            raise self._wrong(f"expected one of {', '.join(self._states)}")
        if field in _NAMES and text and "/" not in text:
            raise self._wrong(f"expected a full name for `{field}`, as runs show it: tenants/…/{text}")
        if field in _NUMBERS:
            if not re.fullmatch(r"[0-9]{1,9}", text):
                raise self._wrong(f"expected a number from 0 for `{field}`")
            return int(text)
        if field in _TIMES:
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                moment = None
            if moment is None or moment.tzinfo is None:
                raise self._wrong(f'expected a time for `{field}`, as in "2026-01-31T08:00:00Z"')
            try:
                return moment.astimezone(UTC)
            except OverflowError:
                raise self._wrong(f"the time for `{field}` is out of range") from None
        return text

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at][:2] if self._at < len(self._tokens) else ("", "end")

    def _skip_word(self, word: str) -> bool:
        found = self._peek() == (word, "word")
        self._at += found
        return found

    def _skip_sign(self, sign: str) -> bool:
        found = self._peek() == (sign, "sign")
        self._at += found
        return found

    def _wrong(self, message: str) -> InvalidError:
        place = f"character {self._tokens[self._at][2] + 1}" if self._at < len(self._tokens) else "the end"
        return InvalidError("filter", f"at {place}: {message}")


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Text, kind (`text`, `sign` or `word`) and place of each token."""
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise InvalidError("filter", f"at character {at + 1}: a quote that never ends, or a character out of place")
        kind = str(found.lastgroup)
        value = found[kind]
        if kind == "text":
            value = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
        yield value, kind, found.start(kind)
        at = found.end()
