"""Where a character of a text value stands in the document: quotes, escapes, folding and indentation undone.

Folding changes white space only, so places are found by counting the other characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

__all__ = ["place_of"]

_ESCAPE_DIGITS = {"x": 2, "u": 4, "U": 8}
_WHITE_ESCAPES = frozenset("tnrvfNLP_ \t\n")


def place_of(node: yaml.ScalarNode, offset: int) -> tuple[int, int]:
    """Line and column, both from 1, of the character at `offset` of a text value; past its end the place behind it."""
    mark: Any = node.start_mark
    source: str = mark.buffer[mark.pointer : node.end_mark.pointer]
    before = sum(not character.isspace() for character in node.value[:offset])
    index = 0
    for number, (start, end) in enumerate(_visible(source, node.style)):
        if number == before:
            index = start
            break
        index = end
    above = source[:index]
    lines = above.count("\n")
    column = len(above) - above.rfind("\n") if lines else mark.column + 1 + len(above)
    return mark.line + 1 + lines, column


def _visible(source: str, style: str | None) -> Iterator[tuple[int, int]]:
    """Start and end in the source of each character that is no white space."""
    if style in ("|", ">"):
        at, end = source.find("\n") + 1, len(source)
    elif style in ("'", '"'):
        at, end = 1, len(source) - 1
    else:
        at, end = 0, len(source)
    while at < end:
        width, seen = 1, not source[at].isspace()
        if style == "'" and source[at] == "'":
            width = 2
        elif style == '"' and source[at] == "\\":
            kind = source[at + 1]
            width = 2 + _ESCAPE_DIGITS.get(kind, 0)
            if kind in _ESCAPE_DIGITS:
                code = int(source[at + 2 : at + width], 16)
                seen = not chr(code).isspace() and not 0xDC00 <= code < 0xE000  # second halves are none
            else:
                seen = kind not in _WHITE_ESCAPES
        if seen:
            yield at, at + width
        at += width
