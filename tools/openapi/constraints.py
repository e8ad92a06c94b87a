"""The rules of buf.validate as far as JSON Schema can say them.

A rule that JSON Schema has no word for becomes a sentence. Which types the fields have is decided in `schemas.py`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["describe", "narrow"]

Schema = dict[str, Any]

_FORMATS = {
    "email": "email",
    "hostname": "hostname",
    "ip": "ip",
    "ipv4": "ipv4",
    "ipv6": "ipv6",
    "uri": "uri",
    "uri_ref": "uri-reference",
    "uuid": "uuid",
}
_IGNORE_IF_ZERO_VALUE = 1
_INTEGERS = ("int32", "uint32", "sint32", "fixed32", "sfixed32", "float", "double")
_LONGS = ("int64", "uint64", "sint64", "fixed64", "sfixed64")
_BOUNDS = {"gte": "at least", "gt": "more than", "lte": "at most", "lt": "less than"}


def narrow(schema: Schema, rules: Any) -> None:  # noqa: ANN401 - a buf.validate.FieldRules of a pool of its own
    """Add to the field's `schema` what `rules` (buf.validate.FieldRules) allow, in place."""
    kind = rules.WhichOneof("type")
    if kind is None:
        return
    rule = getattr(rules, kind)
    if kind == "string":
        _string(schema, rule, or_empty=rules.ignore == _IGNORE_IF_ZERO_VALUE)
    elif kind in _INTEGERS:
        _number(schema, rule)
    elif kind == "repeated":
        _copy(schema, rule, {"min_items": "minItems", "max_items": "maxItems", "unique": "uniqueItems"})
        if rule.HasField("items"):
            narrow(schema["items"], rule.items)
    elif kind == "map":
        _copy(schema, rule, {"min_pairs": "minProperties", "max_pairs": "maxProperties"})
        if rule.HasField("values"):
            narrow(schema["additionalProperties"], rule.values)


def describe(rules: Any) -> list[str]:  # noqa: ANN401
    """The rules that JSON Schema has no word for, a sentence each: bounds of values that JSON writes as strings."""
    kind = rules.WhichOneof("type")
    if kind in _LONGS or kind == "duration":
        rule = getattr(rules, kind)
        limits = [
            f"{words} {_text(getattr(rule, name), kind)}" for name, words in _BOUNDS.items() if rule.HasField(name)
        ]
        return [f"Must be {' and '.join(limits)}."] if limits else []
    if kind in {"string", "bytes"}:
        rule = getattr(rules, kind)
        names = {"max_bytes": "At most", "min_bytes": "At least"} if kind == "string" else {"max_len": "At most"}
        return [f"{words} {getattr(rule, name)} bytes." for name, words in names.items() if rule.HasField(name)]
    return []


def _string(schema: Schema, rule: Any, *, or_empty: bool) -> None:  # noqa: ANN401
    _copy(schema, rule, {"max_len": "maxLength"})
    if rule.HasField("len"):
        schema["minLength"] = schema["maxLength"] = rule.len
    elif not or_empty:
        _copy(schema, rule, {"min_len": "minLength"})
    if rule.HasField("pattern"):
        # Absent and empty are one and the same in proto3.
        schema["pattern"] = f"^$|{rule.pattern}" if or_empty else rule.pattern
    if rule.HasField("const"):
        schema["enum"] = [rule.const]
    elif getattr(rule, "in"):
        schema["enum"] = [*([""] if or_empty else []), *getattr(rule, "in")]
    form = rule.WhichOneof("well_known")
    if form in _FORMATS:
        schema["format"] = _FORMATS[form]


def _number(schema: Schema, rule: Any) -> None:  # noqa: ANN401
    _copy(schema, rule, {"gte": "minimum", "lte": "maximum"})
    for name, bound, exclusive in (
        ("gt", "minimum", "exclusiveMinimum"),
        ("lt", "maximum", "exclusiveMaximum"),
    ):
        if rule.HasField(name):
            schema[bound] = getattr(rule, name)
            schema[exclusive] = True
    if rule.HasField("const"):
        schema["enum"] = [rule.const]
    elif getattr(rule, "in"):
        schema["enum"] = list(getattr(rule, "in"))


def _copy(schema: Schema, rule: Any, names: dict[str, str]) -> None:  # noqa: ANN401
    for theirs, ours in names.items():
        if rule.HasField(theirs):
            schema[ours] = getattr(rule, theirs)


def _text(value: Any, kind: str) -> str:  # noqa: ANN401
    return str(value.ToJsonString()) if kind == "duration" else str(value)
