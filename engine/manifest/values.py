"""Which value of `model.yaml` cannot be: its key, what it is, and what may stand there.

What may stand where is read from the manifests' own types, as msgspec reads it; keys that are unknown or missing are
`engine.manifest.parse`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import inspect

from engine.manifest.words import Number, Sized, alternatives, bare, key_shown, shown, taken

__all__ = ["fault_of_value"]

_EXPONENT = 1023
"""Whole numbers of more bits are no float64."""


def fault_of_value(value: object, kind: inspect.Type) -> str | None:
    """What is wrong with the first value that cannot be: `scheduling.max_batch: is 0; must be …`.

    Args:
        value: what the YAML holds.
        kind: what it should be.
    """
    return next(_faults(value, kind, ""), None)


def _faults(value: object, kind: inspect.Type, path: str) -> Iterator[str]:
    """Every value that cannot be, in the order of the keys."""
    inner = bare(kind)
    if isinstance(inner, inspect.UnionType):
        yield from _of_union(value, kind, path)
    elif not _fits(value, inner) or not _within(value, inner):
        yield _fault(value, kind, path)
    elif isinstance(value, list):
        for at, (item, each) in enumerate(zip(value, _items(inner, len(value)), strict=False)):
            yield from _faults(item, each, f"{path}[{at}]")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(inner, inspect.DictType) and not _takes(key, inner.key_type):
                yield f"{path}: a key is {shown(key)}; must be {taken(inner.key_type)}"
            for each in _values(inner, key):
                yield from _faults(item, each, _join(path, key))


def _of_union(value: object, kind: inspect.Type, path: str) -> Iterator[str]:
    """Nothing where one of its types takes it; of a list or a table what is wrong inside."""
    kinds = alternatives(kind)
    if any(_takes(value, each) for each in kinds):
        return
    like = [each for each in kinds if _fits(value, bare(each))]
    if like and isinstance(value, (list, Mapping)):
        yield from _faults(value, like[0], path)
    else:
        yield _fault(value, kind, path)


def _takes(value: object, kind: inspect.Type) -> bool:
    return next(_faults(value, kind, ""), None) is None


def _fault(value: object, kind: inspect.Type, path: str) -> str:
    is_text = value and isinstance(value, str) and not any(_fits(value, bare(each)) for each in alternatives(kind))
    said = f"{path}: is {'the text ' if is_text else ''}{shown(value)}; must be {taken(kind)}"
    in_quotes = isinstance(value, (bool, int, float)) and " " not in shown(value) and _takes(shown(value), kind)
    return f"{said}; in quotes it is text" if in_quotes else said


def _fits(value: object, kind: inspect.Type) -> bool:
    """Whether a value is of a type, its bounds aside."""
    match kind:
        case inspect.NoneType():
            return value is None
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.FloatType():
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case inspect.StrType() | inspect.LiteralType():
            return isinstance(value, str)
        case inspect.ListType() | inspect.VarTupleType() | inspect.TupleType():
            return isinstance(value, list)
        case inspect.DictType() | inspect.StructType():
            return isinstance(value, Mapping)
        case _:
            return True


def _within(value: object, kind: inspect.Type) -> bool:
    """Whether a value of this type is a known one, and as large and as long as it may be."""
    if isinstance(kind, inspect.LiteralType):
        return value in kind.values
    if isinstance(kind, inspect.TupleType) and isinstance(value, list):
        return len(value) == len(kind.item_types)
    if isinstance(kind, Number) and isinstance(value, (int, float)):
        return _is_in_range(value, kind)
    if isinstance(kind, Sized) and isinstance(value, (str, list, Mapping)):
        return _is_of_size(value, kind)
    return True


def _is_in_range(number: float, kind: Number) -> bool:
    if isinstance(kind, inspect.FloatType) and isinstance(number, int) and number.bit_length() > _EXPONENT:
        return False
    return (
        (kind.ge is None or number >= kind.ge)
        and (kind.gt is None or number > kind.gt)
        and (kind.le is None or number <= kind.le)
        and (kind.lt is None or number < kind.lt)
    )


def _is_of_size(value: str | list[object] | Mapping[object, object], kind: Sized) -> bool:
    if isinstance(kind, inspect.StrType) and kind.pattern is not None and not re.search(kind.pattern, str(value)):
        return False
    return (kind.min_length or 0) <= len(value) and (kind.max_length is None or len(value) <= kind.max_length)


def _items(kind: inspect.Type, count: int) -> Sequence[inspect.Type]:
    """The type of each item of a list; none where they may be anything."""
    if isinstance(kind, inspect.TupleType):
        return kind.item_types
    return [kind.item_type] * count if isinstance(kind, (inspect.ListType, inspect.VarTupleType)) else ()


def _values(kind: inspect.Type, key: object) -> Sequence[inspect.Type]:
    """The type of a key's value; none where it may be anything."""
    if isinstance(kind, inspect.StructType):
        return [field.type for field in kind.fields if field.encode_name == key]
    return (kind.value_type,) if isinstance(kind, inspect.DictType) else ()


def _join(path: str, key: object) -> str:
    return f"{path}.{key_shown(key)}" if path else key_shown(key)
