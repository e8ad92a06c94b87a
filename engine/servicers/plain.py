"""Messages as the JSON that other protocols' clients read: names as in the contract, 64-bit integers as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

__all__ = ["plain"]


def plain(message: Message) -> dict[str, Any]:
    """A message as a JSON object; every field is there, but for messages and choices that were not set."""
    shown: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            of = field.message_type.fields_by_name["value"]
            shown[field.name] = {str(key): _one(of, value[key]) for key in value}
        elif field.is_repeated:
            shown[field.name] = [_one(field, each) for each in value]
        else:
            shown[field.name] = _one(field, value)
    return shown


def _one(field: Any, value: Any) -> Any:  # noqa: ANN401 -- a descriptor, which has no one type, and its value
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        named: Mapping[int, Any] = field.enum_type.values_by_number
        return named[value].name if value in named else value
    return value.decode(errors="replace") if isinstance(value, bytes) else value
