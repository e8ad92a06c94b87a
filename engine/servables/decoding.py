"""The image files of a request decoded, a few at once; what one of them is, is said with its place in the request."""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import ElementError
from engine.scheduler.pieces import in_turn
from engine.scheduler.terms import Terms
from mesh.sandbox import Decoded, ImageInvalidError, ImagePool, Wanted

__all__ = ["MAX_IMAGES", "decode"]

MAX_IMAGES = 256
"""Of one request; the contract of `PredictionService` has the same number."""
_AT_ONCE = 4
"""Images of one request that are on their way to be decoded; all others of it have not been handed over."""


async def decode(
    images: ImagePool, files: Sequence[bytes], wanted: Wanted, field: str, terms: Terms, *, first: int = 0
) -> list[Decoded]:
    """Each image, in order; after one that is wrong no further ones are begun.

    Args:
        images: decodes.
        files: PNG, JPEG or WebP.
        wanted: what shall be made of them.
        field: what they are called in the request.
        terms: for whom.
        first: the place of the first of them in the request.

    Raises:
        ElementError: the first that is wrong.
        SandboxError: they were not decoded.
    """
    found: dict[int, Decoded] = {}
    wrong: list[ElementError] = []

    async def work(at: int) -> None:
        if wrong:
            return
        try:
            found[at] = await images.decoded(files[at], wanted, owner=terms.owner)
        except ImageInvalidError as error:
            wrong.append(ElementError(field, first + at, error.message))

    await in_turn(range(len(files)), work, at_once=_AT_ONCE)
    if wrong:
        raise min(wrong, key=lambda error: error.index)
    return [found[at] for at in range(len(files))]
