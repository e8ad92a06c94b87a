"""What was sent to a webhook, as a value: its headers by lower-case name, and its body as whatever it is.

Nothing here decides whether a request is good; signatures are checked over the bytes before this module sees them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from integration.errors import DeliveryInvalidError
from integration.strict import exact_numbers

__all__ = ["request_value"]

_MAX_DEPTH = 30
"""As deep as a run's input may be."""
_MAX_FIELDS = 1000
_FORM = "application/x-www-form-urlencoded"


def request_value(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """`{headers, body}` as mappings see it.

    The body is a value where it is JSON, an object of its fields where it is a form (the last one of a name counts),
    else a text, or base64 where it is no text; null where it is empty. Whole numbers that a double cannot hold become
    text.

    Raises:
        DeliveryInvalidError: it says that it is JSON or a form, and is none.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return {"headers": dict(headers), "body": _body(kind, body)}


def _body(kind: str, body: bytes) -> Any:  # noqa: ANN401 -- any JSON
    if not body:
        return None
    is_json = kind.endswith(("/json", "+json"))
    if is_json or not kind:
        try:
            too_deep = DeliveryInvalidError(f"the body is nested deeper than {_MAX_DEPTH} levels")
            return exact_numbers(msgspec.json.decode(body), _MAX_DEPTH, too_deep)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if is_json:
                raise DeliveryInvalidError(f"the body says {kind} and is none: {error}") from None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return base64.b64encode(body).decode()
    if kind != _FORM:
        return text
    try:
        return dict(parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=_MAX_FIELDS))
    except ValueError as error:
        raise DeliveryInvalidError(f"the body says {kind} and is none: {error}") from None
