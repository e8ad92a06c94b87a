"""Decoding strangers' images in confined child processes: whatever a file does there, the service goes on.

What happens to an image in them is `mesh.sandboxed.images`; what a model makes of the pixels is the engine's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import msgspec

from mesh.sandbox.errors import (
    ImageInvalidError,
    SandboxCrashedError,
    SandboxDeadlineError,
    SandboxMemoryError,
    refused,
)
from mesh.sandbox.lane import Lane
from mesh.sandbox.worker import Kind, Limits
from mesh.sandboxed.frames import Op, Status, pack

__all__ = ["MAX_OUTPUT_BYTES", "Decoded", "Fit", "ImagePool", "Invert", "Wanted"]

MAX_OUTPUT_BYTES: Final = 8 << 20
"""The most that an image's pixels may be when they come back."""

Fit: TypeAlias = Literal["stretch", "crop", "pad"]
Invert: TypeAlias = Literal["never", "always", "auto"]

_HEADER: Final = struct.Struct("<II")
"""How wide and high an image is, before its pixels."""
_BYTES_PER_PIXEL: Final = 24
"""What decoding needs at most, WebP with alpha: the canvas twice, two copies of its bytes, the image, another mode."""


class Wanted(msgspec.Struct, frozen=True):
    """What shall be made of an image.

    Attributes:
        width: of the pixels that come back.
        height: of the same.
        mode: `L` for one channel, `RGB` for three.
        invert: whether dark and bright change places; `auto` where the ground is brighter than what is on it.
        contrast: whether the ground becomes black and the brightest becomes white.
        trim: whether the ground around what is drawn is cut off.
        fit: how another shape is met: `stretch`, `crop` at the sides, or `pad` with `fill`.
        fill: how bright the sides are that are filled up, from 0 to 255.
    """

    width: int
    height: int
    mode: Literal["L", "RGB"]
    invert: Invert = "never"
    contrast: bool = False
    trim: bool = False
    fit: Fit = "stretch"
    fill: int = 0


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was made of an image.

    Attributes:
        pixels: height x width x channels bytes, as it was wanted.
        width: of the image itself, held upright.
        height: of the same.
    """

    pixels: bytes
    width: int
    height: int


class _Request(Wanted, frozen=True, kw_only=True):
    """As the worker reads it."""

    max_pixels: int


class ImagePool:
    """Decodes images; processes start with the first one.

    A file that breaks a limit costs its process, which is replaced at once.

    Args:
        max_pixels: the most that an image may have; looked at before it is decoded.
        max_bytes: the most that a file may have.
        size: how many are decoded at once.
        deadline_s: how long one may take.
        max_waiting: how many may wait for their turn; a quarter of them for one owner.
        max_wait_s: how long one may wait.
    """

    def __init__(
        self,
        *,
        max_pixels: int = 16 << 20,
        max_bytes: int = 8 << 20,
        size: int = 2,
        deadline_s: float = 3.0,
        max_waiting: int = 4096,
        max_wait_s: float = 20.0,
    ) -> None:
        self._max_pixels = max_pixels
        self._max_bytes = max_bytes
        self._deadline_s = deadline_s
        memory = max_pixels * _BYTES_PER_PIXEL + 8 * max_bytes + (32 << 20)
        limits = Limits(deadline_s, memory, max_bytes, MAX_OUTPUT_BYTES)
        self._lane = Lane(Kind.IMAGE, size, limits, max_waiting=max_waiting, max_wait_s=max_wait_s)

    async def close(self) -> None:
        """Kill all processes; calls under way and later ones get SandboxUnavailableError."""
        await self._lane.close()

    def pids(self) -> frozenset[int]:
        """The processes there are now."""
        return self._lane.pids

    async def pixels(self, image: bytes, wanted: Wanted, *, owner: str) -> bytes:
        """An image's pixels: height x width x channels bytes. As `decoded`."""
        return (await self.decoded(image, wanted, owner=owner)).pixels

    async def decoded(self, image: bytes, wanted: Wanted, *, owner: str) -> Decoded:
        """An image's pixels, and how large it is itself.

        Raises:
            ImageInvalidError: it is no PNG, JPEG or WebP, is damaged or animated, or breaks a limit.
            SandboxBusyError, SandboxUnavailableError: it was not decoded.
        """
        if len(image) > self._max_bytes:
            raise ImageInvalidError(f"is {len(image)} bytes, more than the {self._max_bytes} allowed; make it smaller")
        request = _Request(**msgspec.structs.asdict(wanted), max_pixels=self._max_pixels)
        try:
            status, body = await self._lane.call(owner, pack(Op.IMAGE, msgspec.json.encode(request), image))
        except SandboxDeadlineError:
            raise ImageInvalidError(f"takes more than {self._deadline_s:g} s to decode; save it anew") from None
        except (SandboxMemoryError, SandboxCrashedError):
            raise ImageInvalidError("cannot be decoded within the memory for one image; save it anew") from None
        if status is not Status.OK:
            raise refused(status, msgspec.json.decode(body))
        width, height = _HEADER.unpack_from(body)
        return Decoded(body[_HEADER.size :], width, height)
