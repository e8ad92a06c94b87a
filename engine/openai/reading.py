"""From a body to a request, with the field that is wrong in every error.

What the fields mean is `engine.openai.requests`'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec

from engine.errors import BodyError, FieldError, FieldUnsupportedError

__all__ = ["check_neutral", "read"]

Request = TypeVar("Request", bound=msgspec.Struct)

_PLACE = re.compile(r"^(?P<said>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.DOTALL)


def read(data: bytes, kind: type[Request]) -> Request:
    """A request of this kind.

    Raises:
        BodyError: the body is no JSON.
        FieldError: a field is unknown, missing, or not what it must be.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise _wrong(str(error), kind) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BodyError(f"the body is no JSON: {str(error)[:200]}") from None
    except RecursionError:
        raise BodyError("the body's JSON is nested too deeply") from None


def check_neutral(request: msgspec.Struct, neutral: Mapping[str, Sequence[Any]]) -> None:
    """See that what the engine cannot do is not asked for.

    Args:
        request: with these fields.
        neutral: for each of them, the values besides null that ask for nothing.

    Raises:
        FieldUnsupportedError: one asks for something.
    """
    for name, values in neutral.items():
        value = getattr(request, name)
        if value is not None and not any(value == each and type(value) is type(each) for each in values):
            raise FieldUnsupportedError(name, "is not supported here; leave it out")


def _wrong(said: str, kind: type[msgspec.Struct]) -> FieldError:
    found = _PLACE.match(said)
    text, path = (found["said"], found["path"] or "") if found else (said, "")
    if unknown := _UNKNOWN.match(text):
        name = unknown["name"][:64]
        near = get_close_matches(name, [field.encode_name for field in msgspec.structs.fields(kind)], n=1)
        hint = f"; did you mean `{near[0]}`?" if near and not path else ""
        return FieldError(_join(path, name), f"is unknown{hint}")
    if missing := _MISSING.match(text):
        return FieldError(_join(path, missing["name"]), "is missing")
    return FieldError(path[:200] or "body", text[:1].lower() + text[1:200])


def _join(path: str, name: str) -> str:
    return f"{path[:200]}.{name}" if path else name
