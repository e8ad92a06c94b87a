"""What the manifests of all kinds share: the keys that each has, and the types of values."""

from __future__ import annotations

from typing import Annotated, NamedTuple, TypeAlias

import msgspec

__all__ = ["Base", "Common", "FileName", "Label", "Labels", "Length", "ModelName", "Text"]

FileName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")]
ModelName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]
Label: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Labels: TypeAlias = Annotated[tuple[Label, ...], msgspec.Meta(max_length=65536)]
Length: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=4096)]


class Base(NamedTuple):
    """A model that another one stands on: its id, and a version's number or alias; empty for the newest."""

    model: str
    version: str = ""


class Common(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """The keys that a manifest of any kind has.

    Attributes:
        name: the model's id.
        response_cache: whether answers are kept: the same question gets the same answer and is computed once.
    """

    name: ModelName
    response_cache: bool = False

    @property
    def stands_on(self) -> tuple[Base, ...]:
        """The models that it cannot be without; the tenant's own first, then `system`."""
        return ()

    def check(self) -> None:
        """See that its keys go together; a kind whose keys may contradict each other says how.

        Raises:
            ManifestError: they do not.
        """
