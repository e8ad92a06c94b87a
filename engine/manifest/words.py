"""What a key of `model.yaml` holds and what may stand there, in plain words.

Whether a value may stand there is `engine.manifest.values`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import inspect

__all__ = ["Number", "Sized", "alternatives", "bare", "key_shown", "shown", "taken"]

Number: TypeAlias = inspect.IntType | inspect.FloatType
Sized: TypeAlias = inspect.StrType | inspect.ListType | inspect.VarTupleType | inspect.DictType
_MAX_SHOWN = 64


def bare(kind: inspect.Type) -> inspect.Type:
    """A type without what is told about it."""
    return bare(kind.type) if isinstance(kind, inspect.Metadata) else kind


def alternatives(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    """The types of which a value may be one."""
    inner = bare(kind)
    return inner.types if isinstance(inner, inspect.UnionType) else (inner,)


def key_shown(key: object) -> str:
    """A key as it stands in a path, of bounded length."""
    return _printable(key) if isinstance(key, str) else shown(key)


def shown(value: object) -> str:
    """What was given, of bounded length."""
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case int() if value.bit_length() > 128:  # Python writes no numbers of any length
            return f"a whole number of {value.bit_length()} bits"
        case "":
            return "an empty text"
        case str() if len(value) > _MAX_SHOWN:
            return f"`{_printable(value)}…`, {len(value)} characters"
        case str():
            return f"`{_printable(value)}`"
        case []:
            return "an empty list"
        case list():
            return f"a list of {len(value)}"
        case Mapping():
            return f"a table of {len(value)}"
        case _:
            return str(value)


def taken(kind: inspect.Type) -> str:
    """What may stand where this type is wanted; a pattern's words are the `description` of its type."""
    match kind:
        case inspect.Metadata():
            return str((kind.extra_json_schema or {}).get("description") or taken(kind.type))
        case inspect.UnionType():
            return ", or ".join(taken(each) for each in kind.types if not isinstance(each, inspect.NoneType))
        case inspect.ListType() | inspect.VarTupleType():
            return f"a list{_lengths(kind, '')}, each {taken(kind.item_type)}"
        case inspect.TupleType():
            items = dict.fromkeys(map(taken, kind.item_types))
            return f"a list of {len(kind.item_types)}, {'each ' * (len(items) == 1)}{', then '.join(items)}"
        case inspect.DictType():
            return f"a table{_lengths(kind, '')}, `{{name: …}}`, each {taken(kind.value_type)}"
        case inspect.StructType():
            return f"a table whose keys may be {', '.join(field.encode_name for field in kind.fields)}"
        case _:
            return _of_one(kind)


def _of_one(kind: inspect.Type) -> str:
    """The same for what is neither a list nor a table."""
    match kind:
        case inspect.LiteralType():
            return f"one of {', '.join(map(str, kind.values))}"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number{_bounds(kind)}"
        case inspect.FloatType():
            return f"a number{_bounds(kind)}"
        case inspect.StrType():
            return f"text{_lengths(kind, ' characters')}"
        case _:
            return "anything"


def _printable(text: str) -> str:
    """A text's beginning; what cannot be printed is written as Python does."""
    return repr(text[:_MAX_SHOWN])[1:-1]


def _bounds(kind: Number) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {_plain(kind.ge)} to {_plain(kind.le)}"
    said = {"of at least": kind.ge, "above": kind.gt, "below": kind.lt, "of at most": kind.le}
    return " and".join(f" {word} {_plain(bound)}" for word, bound in said.items() if bound is not None)


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _lengths(kind: Sized, what: str) -> str:
    if kind.min_length is not None and kind.max_length is not None:
        return f" of {kind.min_length} to {kind.max_length}{what}"
    said = {"of at least": kind.min_length, "of at most": kind.max_length}
    return "".join(f" {word} {bound}{what}" for word, bound in said.items() if bound is not None)
