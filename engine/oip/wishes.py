"""Bodies of the REST side that ask for anything but an inference: small JSON objects, most of which may be left out."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from engine.errors import BodyError

__all__ = ["ControlWish", "IndexWish", "RegionWish", "read_wish"]

_Bytes: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

Wish = TypeVar("Wish")


class IndexWish(msgspec.Struct, frozen=True):
    """What of the repository is listed: everything, or what takes requests."""

    ready: bool = False


class ControlWish(msgspec.Struct, frozen=True):
    """How a model is loaded or unloaded."""

    parameters: dict[str, Any] = {}


class RegionWish(msgspec.Struct, frozen=True):
    """Where a region of shared memory is: a shared memory object's name, and bytes."""

    key: str
    byte_size: _Bytes
    offset: _Bytes = 0


def read_wish(data: bytes, kind: type[Wish]) -> Wish:
    """What a body asks for; an empty one is an empty object.

    Raises:
        BodyError: it is no JSON object, or not such a one.
    """
    try:
        return msgspec.json.decode(data.strip() or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise BodyError(f"the body's JSON is no such request: {str(error).replace('`$.', '`')}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BodyError(f"the body is no JSON: {str(error)[:200]}") from None
    except RecursionError:
        raise BodyError("the body's JSON is nested too deeply") from None
