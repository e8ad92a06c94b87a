"""From a body to a request, with the field that is wrong in every error.

What the fields mean is `engine.openai.requests`'.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from engine.errors import BodyError, FieldError, FieldUnsupportedError

__all__ = ["check_neutral", "read"]

Request = TypeVar("Request", bound=msgspec.Struct)

_PLACE = re.compile(r"^(?P<said>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_CHOICE = re.compile(r"^Invalid (?:enum )?value '(.*)'$", re.DOTALL)
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
    if (value := _CHOICE.match(text)) and (known := _choices(kind, path)):
        near = get_close_matches(value[1], known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"
        return FieldError(path[:200], f"is `{value[1][:64]}`; {hint}")
    return FieldError(path[:200] or "body", text[:1].lower() + text[1:200])


def _choices(kind: type[msgspec.Struct], path: str) -> list[str]:
    """The texts that may stand at a path such as `messages[0].role`."""
    found: list[inspect.Type] = [inspect.type_info(kind)]
    for name in re.findall(r"[^.\[\]]+", re.sub(r"\[[^\]]*\]", "", path)):
        structs = [each for each in _within(found) if isinstance(each, inspect.StructType)]
        tags = [str(each.tag) for each in structs if each.tag_field == name]
        if tags:
            return sorted(tags)
        found = [field.type for struct in structs for field in struct.fields if field.encode_name == name]
    return sorted(
        str(value) for each in _within(found) if isinstance(each, inspect.LiteralType) for value in each.values
    )


def _within(kinds: Iterable[inspect.Type]) -> Iterator[inspect.Type]:
    """The types themselves, for unions and lists those that they are made of."""
    for kind in kinds:
        if isinstance(kind, inspect.UnionType):
            yield from _within(kind.types)
        elif isinstance(kind, inspect.ListType):
            yield from _within([kind.item_type])
        else:
            yield kind


def _join(path: str, name: str) -> str:
    return f"{path[:200]}.{name}" if path else name
