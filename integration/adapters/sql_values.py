"""What goes into a statement and what comes out of it: parameters by name, rows as JSON has them, within bounds."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import text

from integration.errors import AnswerTooLargeError, SystemRefusedError
from mesh.json_value import LARGEST_EXACT

__all__ = ["parameters_of", "rows_of"]

_MAX_ROWS = 1000
_MAX_ANSWER_BYTES = 1024 * 1024


def parameters_of(statement: str, value: Any) -> dict[str, object]:  # noqa: ANN401 -- any JSON
    """The statement's parameters, taken from the input by name.

    Raises:
        SystemRefusedError: one is missing, or no plain value.
    """
    names = text(statement).compile().params
    given = value if isinstance(value, dict) else {}
    parameters: dict[str, object] = {}
    for name in names:
        if name not in given:
            raise SystemRefusedError(f"the input lacks `{name}`, which the statement needs", parameter=name)
        found = given[name]
        if isinstance(found, (dict, list)):
            raise SystemRefusedError(f"the input's `{name}` is no plain value; map it with `input`", parameter=name)
        parameters[name] = found
    return parameters


def rows_of(found: Iterable[Mapping[Any, Any]]) -> dict[str, object]:
    """The answer that rows make; no more of them are asked for than it may hold.

    Raises:
        AnswerTooLargeError: they are too many, or too large.
    """
    rows: list[dict[str, object]] = []
    size = 0
    for row in found:
        if len(rows) == _MAX_ROWS or sum(map(_size, row.values())) > _MAX_ANSWER_BYTES:
            raise _too_large()
        plain = {str(name): _plain(cell) for name, cell in row.items()}
        size += len(msgspec.json.encode(plain))
        if size > _MAX_ANSWER_BYTES:
            raise _too_large()
        rows.append(plain)
    return {"rows": rows, "row_count": len(rows)}


def _too_large() -> AnswerTooLargeError:
    return AnswerTooLargeError(
        f"the answer has more than {_MAX_ROWS} rows or {_MAX_ANSWER_BYTES} bytes; add a LIMIT or fewer columns"
    )


def _size(cell: Any) -> int:  # noqa: ANN401 -- whatever a driver returns
    return len(cell) if isinstance(cell, (str, bytes)) else 0


def _plain(cell: Any) -> object:  # noqa: ANN401 -- whatever a driver returns
    if cell is None or isinstance(cell, (bool, float, str)):
        return cell
    if isinstance(cell, int):  # beyond that it would lose digits on its way
        return cell if abs(cell) <= LARGEST_EXACT else str(cell)
    return base64.b64encode(cell).decode() if isinstance(cell, bytes) else str(cell)
