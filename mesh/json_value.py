"""JSON in `google.protobuf.Value`, there and back: the one place where the two are turned into each other.

A Value holds doubles and nothing else; whole numbers come back as such as far as a double holds each of them. The
JSON of whole messages is printed here too, so that a number reads the same wherever it is shown.
"""

from __future__ import annotations

import math
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from mesh.errors import InvalidError

__all__ = ["LARGEST_EXACT", "fault_of_json", "json_to_struct", "json_to_value", "message_to_json", "value_to_json"]

LARGEST_EXACT = 2**53 - 1
"""The largest whole number to which no other one is rounded in a double (RFC 8259, section 6)."""
_MAX_DEPTH = 32
"""protobuf reads 100 levels of messages, and a level of JSON takes three of them."""


def value_to_json(message: Value | Struct | ListValue, field: str) -> Any:  # noqa: ANN401 -- any JSON
    """The JSON that a Value, Struct or ListValue holds.

    Args:
        message: a Value that holds nothing is null.
        field: the message's path in the request, for errors.

    Raises:
        InvalidError: it holds a number that JSON does not know.
    """
    if isinstance(message, Struct):
        return {key: value_to_json(value, f"{field}.{key}") for key, value in message.fields.items()}
    if isinstance(message, ListValue):
        return [value_to_json(value, f"{field}[{at}]") for at, value in enumerate(message.values)]
    match message.WhichOneof("kind"):
        case "number_value":
            return _number(message.number_value, field)
        case "string_value":
            return message.string_value
        case "bool_value":
            return message.bool_value
        case "struct_value":
            return value_to_json(message.struct_value, field)
        case "list_value":
            return value_to_json(message.list_value, field)
        case _:
            return None


def json_to_value(value: Any, field: str) -> Value:  # noqa: ANN401 -- any JSON
    """A Value that holds some JSON; a whole number that no double holds becomes the nearest one.

    Args:
        value: what `json.loads` gives.
        field: what it is, for errors.

    Raises:
        InvalidError: no Value can hold it.
    """
    message = Value()
    _parse(value, message, field)
    return message


def json_to_struct(values: dict[str, Any], field: str) -> Struct:
    """A Struct that holds a JSON object; otherwise as `json_to_value`."""
    message = Struct()
    _parse(values, message, field)
    return message


def _parse(value: Any, message: Message, field: str) -> None:  # noqa: ANN401 -- any JSON
    if fault := fault_of_json(value):
        raise InvalidError(field, fault)
    try:
        json_format.ParseDict(value, message)
    except (json_format.ParseError, TypeError) as error:
        raise InvalidError(field, str(error)) from None


def fault_of_json(value: Any, *, exact: bool = False) -> str:  # noqa: ANN401 -- any JSON
    """What keeps a Value from holding some JSON, as `holds …`; empty where nothing does.

    Args:
        value: what `json.loads` gives.
        exact: also whole numbers that would not come back as they are.
    """
    level = [value]
    for _ in range(_MAX_DEPTH):
        below = []
        for each in level:
            if isinstance(each, dict):
                below += [*each, *each.values()]
            elif isinstance(each, list):
                below += each
            elif fault := _fault_of_plain(each, exact=exact):
                return fault
        if not below:
            return ""
        level = below
    return f"is nested deeper than {_MAX_DEPTH} levels"


def _fault_of_plain(value: object, *, exact: bool) -> str:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "holds half of a surrogate pair (\\ud800 to \\udfff), which is no text"
    elif isinstance(value, float) and not math.isfinite(value):
        return f"holds {_NAMES.get(value, 'NaN')}, which is no number that JSON knows"
    elif isinstance(value, int) and abs(value) > (LARGEST_EXACT if exact else 1 << 1023):
        shown = str(value) if abs(value) < 1 << 200 else "a number of hundreds of digits"
        return f"holds {shown}, and numbers beyond {LARGEST_EXACT} lose digits on their way; send it as text"
    return ""


_NAMES = {math.inf: "Infinity", -math.inf: "-Infinity"}


def message_to_json(message: Message) -> Any:  # noqa: ANN401 -- any JSON
    """A message as the REST interface shows it, fields that hold their default included."""
    return _whole(json_format.MessageToDict(message, always_print_fields_with_no_presence=True))


def _whole(node: Any) -> Any:  # noqa: ANN401 -- any JSON
    if isinstance(node, dict):
        return {key: _whole(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_whole(value) for value in node]
    return int(node) if isinstance(node, float) and node.is_integer() and abs(node) <= LARGEST_EXACT else node


def _number(value: float, field: str) -> int | float:
    if value.is_integer() and abs(value) <= LARGEST_EXACT:
        return int(value)
    if not math.isfinite(value):
        raise InvalidError(field, f"{_NAMES.get(value, 'NaN')} is no number that JSON knows")
    return value
