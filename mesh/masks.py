"""Update masks: which fields of a resource a request changes (AIP-134)."""

from __future__ import annotations

from collections.abc import Collection

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from mesh.errors import InvalidError

__all__ = ["masked_fields"]


def masked_fields(message: Message, mask: FieldMask, changeable: Collection[str]) -> set[str]:
    """The names of the top-level fields to change.

    Args:
        message: the resource as sent.
        mask: as sent; empty means every changeable field that is set, `*` means every changeable field.
        changeable: what may be changed.

    Raises:
        InvalidError: the mask names a field that is unknown or may not be changed.
    """
    if not mask.paths:
        return {field.name for field, _ in message.ListFields() if field.name in changeable}
    if list(mask.paths) == ["*"]:
        return set(changeable)
    wrong = sorted(path for path in mask.paths if path not in changeable)
    if wrong:
        known = ", ".join(sorted(changeable))
        raise InvalidError("update_mask", f"`{wrong[0]}` cannot be changed; these can: {known}", path=wrong[0])
    return set(mask.paths)
