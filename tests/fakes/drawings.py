"""Image files as tests need them: digits in many dresses, and files that mean harm."""

from __future__ import annotations

import random
import struct
import zlib
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

__all__ = ["file_of", "png_of_header", "progressive_bomb", "written"]


def file_of(image: Image.Image, kind: str = "PNG", **how: object) -> bytes:
    """An image as a file."""
    made = BytesIO()
    image.save(made, kind, **how)
    return made.getvalue()


def written(digit: int, *, paper: int = 255, ink: int = 0, shadow: int = 0, size: int = 400) -> Image.Image:
    """A digit as on a photograph: somewhere on a sheet of paper, which may be darker to one side, with noise."""
    image = Image.new("L", (size, size * 3 // 4), paper)
    font = ImageFont.load_default(size // 3)
    ImageDraw.Draw(image).text((size // 4, size // 8), str(digit), fill=ink, font=font, stroke_width=size // 80)
    noise = random.Random(digit)  # noqa: S311 -- the same noise each time
    pixels = image.load()
    for x in range(image.width):
        darker = shadow * x // image.width
        for y in range(image.height):
            pixels[x, y] = max(0, min(255, pixels[x, y] - darker + noise.randint(-6, 6)))
    return image


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_header(width: int, height: int, *further: tuple[bytes, bytes], data: bytes = b"") -> bytes:
    """A PNG whose header says any size, grey, with further chunks before its data."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = b"".join(_chunk(kind, content) for kind, content in further)
    return b"\x89PNG\r\n\x1a\n" + header + body + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def progressive_bomb(scans: int) -> bytes:
    """A progressive JPEG of 3000 x 3000 pixels whose last scan stands there many times: slow to decode."""
    plain = file_of(Image.effect_noise((3000, 3000), 80), "JPEG", progressive=True, quality=5)
    last = plain.rindex(b"\xff\xda")
    return plain[:last] + plain[last:-2] * scans + b"\xff\xd9"
