"""The section `padding`: how rows of different length share a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias

import msgspec

from engine.errors import ManifestError

__all__ = ["PaddingSection"]

_Axis: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=31)]
_Length: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]


class PaddingSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How rows of different length share a run: filled up to the longest, and cut back afterwards.

    Attributes:
        axes: the inputs that are filled up, each with the axis along which; axis 0 is that of the rows.
        values: what they are filled up with; 0, or an empty text, where it is not said.
        mask: the input that says what is no filling, 1, and what is, 0; a request may leave it out.
        cut: the outputs that are cut back to the length of the request, each with the axis along which.
        buckets: the lengths that runs may have, ascending; without it a run is as long as the longest in it.
    """

    axes: Mapping[str, _Axis]
    values: Mapping[str, float] = {}
    mask: str = ""
    cut: Mapping[str, _Axis] = {}
    buckets: Annotated[tuple[_Length, ...], msgspec.Meta(max_length=256)] = ()

    def __post_init__(self) -> None:
        """See that its keys go together.

        Raises:
            ManifestError: they do not; the message has the line to write.
        """
        if not self.axes:
            raise ManifestError("padding.axes: name the inputs that are filled up: `axes: {input_ids: 1}`")
        if self.mask and self.mask not in self.axes:
            raise ManifestError(f"padding.mask: `{self.mask}` is filled up too; add it: `axes: {{{self.mask}: 1}}`")
        for name in self.values:
            if name not in self.axes or name == self.mask:
                what = "is the mask, which gets 0" if name == self.mask else "is none of `axes`"
                raise ManifestError(f"padding.values: `{name}` {what}; remove it")
        if list(self.buckets) != sorted(set(self.buckets)):
            raise ManifestError(f"padding.buckets: must ascend; write `buckets: {sorted(set(self.buckets))}`")
