"""Filters: the part of AIP-160 that is answered here, equality of dimensions joined by AND."""

from __future__ import annotations

import re
from collections.abc import Mapping

from analytics.dimensions import DIMENSIONS
from mesh.errors import InvalidError

__all__ = ["Filter", "parse_filter"]

_TERM = re.compile(
    r"""\s*(?P<field>[A-Za-z_]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[A-Za-z0-9_./:@-]+))(?=\s|$)""",
    re.DOTALL,
)
_AND = re.compile(r"\s+AND(?=\s)")
_FORM = 'must read `dimension = "value"`, several joined by AND'


class Filter:
    """Which series are wanted.

    Args:
        wanted: the value that each dimension must have, as a whole name or the last part of one.
    """

    def __init__(self, wanted: Mapping[str, str]) -> None:
        self.dimensions = tuple(wanted)
        self._wanted = [(DIMENSIONS.index(dimension), value) for dimension, value in wanted.items()]

    def holds(self, series: tuple[str, ...]) -> bool:
        """Whether a series is wanted."""
        return all(_is(series[at], value) for at, value in self._wanted)


def _is(name: str, wanted: str) -> bool:
    """Whether a name is the one that is wanted, or ends in it: `agents/a`, `a`, `ModelService/GetModel`, `GetModel`."""
    return name == wanted or (wanted != "" and name.endswith((f"/{wanted}", f".{wanted}")))


def parse_filter(text: str) -> Filter:
    """Read a filter; an empty one wants everything.

    Raises:
        InvalidError: it cannot be read; the message says where.
    """
    wanted: dict[str, str] = {}
    at, end = 0, len(text.rstrip())
    while at < end:
        term = _TERM.match(text, at)
        if term is None:
            raise InvalidError("filter", f"{_FORM}; it cannot be read from `{text[at : at + 40].strip()}` on")
        field = term["field"]
        if field not in DIMENSIONS:
            raise InvalidError("filter", f"knows {', '.join(DIMENSIONS)}, not `{field[:40]}`")
        quoted = term["quoted"]
        value = re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL) if quoted is not None else term["bare"]
        if wanted.setdefault(field, value) != value:
            raise InvalidError("filter", f"asks for two values of {field}, which never hold together")
        at = term.end()
        if at < end:
            joined = _AND.match(text, at)
            if joined is None or joined.end() >= end:
                raise InvalidError("filter", f"{_FORM}; it cannot be read from `{text[at : at + 40].strip()}` on")
            at = joined.end()
    return Filter(wanted)
