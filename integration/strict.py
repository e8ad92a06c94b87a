"""Settings in a connection's free fields, read strictly: unknown names are refused with the nearest known one.

What the settings mean is their connector's; `integration.manifest` is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from integration.errors import OperationInvalidError
from mesh.errors import FieldViolation, TiationError

__all__ = ["Strict", "exact_numbers", "invalid", "read_strictly", "whole_numbers"]

_AT = re.compile(r"^(.*?)(?: - at `\$(.*)`)?$", re.DOTALL)
_EXACT = 2**53


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A group of settings."""


S = TypeVar("S", bound=Strict)


def read_strictly(kind: type[S], values: Mapping[str, object], field: str) -> S:
    """Settings of a kind.

    Args:
        kind: what they should be.
        values: what was sent.
        field: where that stands in the request.

    Raises:
        OperationInvalidError: an unknown name, or a value that cannot be; the error names the field.
    """
    plain = whole_numbers(values)
    _check_names(plain, kind, field)
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        said = _AT.match(str(error))
        what, where = (said.group(1), said.group(2) or "") if said else (str(error), "")
        raise invalid(field + where, what.removeprefix("Object ")) from None


def invalid(field: str, description: str) -> OperationInvalidError:
    """The error for a field that is wrong."""
    return OperationInvalidError(
        f"{field}: {description}", violations=(FieldViolation(field, description),), field=field
    )


def whole_numbers(value: Any) -> Any:  # noqa: ANN401 -- any JSON
    """The value with whole numbers where a message knew only doubles."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, Mapping):
        return {key: whole_numbers(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [whole_numbers(each) for each in value]
    return value


def _check_names(values: Any, kind: Any, field: str) -> None:  # noqa: ANN401 -- any JSON, any type
    """Refuse names that a kind of settings does not have, wherever they stand."""
    if isinstance(values, list):
        for at, each in enumerate(values):
            for inner in get_args(kind):
                _check_names(each, inner, f"{field}[{at}]")
    elif get_origin(kind) is Literal:
        if values not in get_args(kind):
            raise _no_such(values, get_args(kind), field)
    elif isinstance(values, dict) and get_origin(kind) is UnionType:
        kinds = {_tag(each): each for each in get_args(kind) if _is_settings(each)}
        if values.get("kind") not in kinds:
            raise _no_such(values.get("kind"), [str(name) for name in kinds], f"{field}.kind")
        _check_names(values, kinds[values["kind"]], field)
    elif isinstance(values, dict) and _is_settings(kind):
        _check_fields(values, kind, field)


def _check_fields(values: dict[str, Any], kind: type[Strict], field: str) -> None:
    """The same for the fields of one group of settings."""
    fields = {info.encode_name: info.type for info in msgspec.structs.fields(kind)}
    known = [*fields, "kind"] if _tag(kind) else [*fields]
    for name, value in values.items():
        if name in fields:
            _check_names(value, fields[name], f"{field}.{name}")
        elif name not in known:
            raise invalid(f"{field}.{name}", f"there is no such setting; {_hint(name, known)}")


def _no_such(value: object, known: Sequence[str], field: str) -> OperationInvalidError:
    """The error for a word that is none of those known."""
    if value is None:
        return invalid(field, f"is missing; {_hint(None, known)}")
    return invalid(field, f"`{str(value)[:100]}` is not known; {_hint(value, known)}")


def _hint(word: object, known: Sequence[str]) -> str:
    """The nearest word that is known, or all of them."""
    tried = () if word is None else (str(word), str(word).upper())
    near = next((found for each in tried for found in get_close_matches(each, known, n=1)), None)
    return f"did you mean `{near}`?" if near else f"known are {', '.join(sorted(known))}"


def _is_settings(kind: Any) -> bool:  # noqa: ANN401 -- any type
    return isinstance(kind, type) and issubclass(kind, Strict)


def _tag(kind: Any) -> str | None:  # noqa: ANN401 -- any type
    return kind.__struct_config__.tag if _is_settings(kind) else None


def exact_numbers(value: Any, deepest: int, too_deep: TiationError) -> Any:  # noqa: ANN401 -- any JSON
    """JSON whose whole numbers beyond 2**53, which later would be rounded, are texts.

    Args:
        value: the JSON.
        deepest: how many levels of lists and objects it may have inside.
        too_deep: raised where it has more.
    """
    if deepest < 0:
        raise too_deep
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return str(value)
    if isinstance(value, dict):
        return {key: exact_numbers(each, deepest - 1, too_deep) for key, each in value.items()}
    if isinstance(value, list):
        return [exact_numbers(each, deepest - 1, too_deep) for each in value]
    return value
