"""What the manifests of all kinds share: the keys that each has, and the types of values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple, TypeAlias

import msgspec

from engine.errors import ManifestError

__all__ = ["Base", "Common", "FileName", "Label", "Labels", "Length", "ModelName", "Text", "WarmUp"]

FileName: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z",
        description="a file's name of 1 to 128 letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`",
    ),
]
ModelName: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z",
        description="a model's id of 1 to 63 small letters, digits and `-`, not beginning or ending with `-`",
    ),
]
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]
Label: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Labels: TypeAlias = Annotated[tuple[Label, ...], msgspec.Meta(max_length=65536)]
Length: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=4096)]
_Axis: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class Base(NamedTuple):
    """A model that another one stands on: its id, and a version's number or alias; empty for the newest."""

    model: str
    version: str = ""


class WarmUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a version is asked before it answers anybody.

    Attributes:
        texts: a request of these texts, for a model that takes texts.
        shapes: a request of values without meaning, with these shapes: `{x: [8, 2]}`; an input that is not named has
            one row, and 2 where its length is free.
        values: inputs as lists, `{x: [[1.5, 2.0]]}`, where values without meaning will not do.
        runs: how often it is asked.
    """

    texts: Annotated[tuple[Text, ...], msgspec.Meta(max_length=256)] = ()
    shapes: Mapping[str, Annotated[tuple[_Axis, ...], msgspec.Meta(max_length=8)]] = {}
    values: Mapping[str, list[object]] = {}
    runs: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1

    def check(self, path: str) -> None:
        """Texts, or tensors.

        Raises:
            ManifestError: both.
        """
        if self.texts and (self.shapes or self.values):
            raise ManifestError(f"{path}: has texts and tensors; write two entries, one for each")


class Common(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """The keys that a manifest of any kind has.

    Attributes:
        name: the model's id.
        response_cache: whether answers are kept: the same question gets the same answer and is computed once.
        warm_up: what a version is asked before it answers anybody; one that fails is FAILED, and the version before
            goes on. Without it something small, where that can be made up; `[]` for nothing.
    """

    name: ModelName
    response_cache: bool = False
    warm_up: Annotated[tuple[WarmUp, ...], msgspec.Meta(max_length=16)] | None = None

    @property
    def stands_on(self) -> tuple[Base, ...]:
        """The models that it cannot be without; the tenant's own first, then `system`."""
        return ()

    def check(self) -> None:
        """See that its keys go together; a kind whose keys may contradict each other says how.

        Raises:
            ManifestError: they do not.
        """
