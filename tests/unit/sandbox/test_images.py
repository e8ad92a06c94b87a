"""Images in the sandbox: what is read, what is refused and how it is said, and that one file harms no other."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import time
import zlib

import pytest
from PIL import Image

from mesh.sandbox import ImageInvalidError, ImagePool, Wanted
from tests.fakes.drawings import file_of, png_of_header, progressive_bomb

GREY = Wanted(width=8, height=8, mode="L")
GRADIENT = Image.linear_gradient("L")


@pytest.fixture
async def pool():
    made = ImagePool(max_pixels=1 << 22, max_bytes=1 << 20, deadline_s=1.5)
    yield made
    await made.close()


def deep() -> Image.Image:
    """The gradient with 16 bits a pixel."""
    return Image.frombytes("I;16", (256, 256), b"".join(struct.pack("<H", 257 * v) for v in GRADIENT.tobytes()))


READ = {
    "png grey": lambda: file_of(GRADIENT),
    "png colour": lambda: file_of(GRADIENT.convert("RGB")),
    "png palette": lambda: file_of(GRADIENT.convert("P")),
    "png 16 bit": lambda: file_of(deep()),
    "png alpha, all of it there": lambda: file_of(GRADIENT.convert("RGBA")),
    "png grey with alpha": lambda: file_of(GRADIENT.convert("LA")),
    "jpeg grey": lambda: file_of(GRADIENT, "JPEG", quality=95),
    "jpeg cmyk": lambda: file_of(GRADIENT.convert("RGB").convert("CMYK"), "JPEG", quality=95),
    "jpeg progressive": lambda: file_of(GRADIENT, "JPEG", quality=95, progressive=True),
    "jpeg of a telephone, two pictures": lambda: file_of(
        GRADIENT.convert("RGB"), "MPO", save_all=True, append_images=[GRADIENT.convert("RGB")], quality=95
    ),
    "webp lossless": lambda: file_of(GRADIENT.convert("RGB"), "WEBP", lossless=True),
    "webp lossy": lambda: file_of(GRADIENT.convert("RGB"), "WEBP", quality=95),
    "webp alpha": lambda: file_of(GRADIENT.convert("RGBA"), "WEBP", lossless=True),
}


@pytest.mark.parametrize("case", READ)
async def test_every_dress_of_an_image_comes_to_the_same_pixels(pool, case):
    expected = GRADIENT.resize((8, 8), Image.Resampling.BILINEAR).tobytes()
    found = await pool.pixels(READ[case](), GREY, owner="t")
    assert len(found) == 64
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 4
    colours = await pool.pixels(READ[case](), Wanted(width=4, height=2, mode="RGB"), owner="t")
    assert len(colours) == 24


async def test_an_image_is_turned_as_the_camera_was_held_and_wrong_metadata_is_not_looked_at(pool):
    upright = await pool.pixels(file_of(GRADIENT.rotate(180)), GREY, owner="t")
    exif = Image.Exif()
    exif[0x0112] = 3
    assert await pool.pixels(file_of(GRADIENT, "PNG", exif=exif), GREY, owner="t") == upright
    flat = await pool.pixels(file_of(GRADIENT), GREY, owner="t")
    for nonsense in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 40, b"\0" * 7):
        found = await pool.pixels(file_of(GRADIENT, "PNG", exif=nonsense), GREY, owner="t")
        assert found == flat, nonsense


def animated(kind: str) -> bytes:
    """Two frames."""
    return file_of(GRADIENT.convert("RGB"), kind, save_all=True, append_images=[Image.new("RGB", (256, 256))])


def webp_of(width: int, height: int) -> bytes:
    """A WebP file whose header says any size."""
    body = b"VP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + struct.pack("<I", width - 1)[:3]
    body += struct.pack("<I", height - 1)[:3] + file_of(GRADIENT.convert("RGB"), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


REFUSED = {
    "nothing": (lambda: b"", "is empty"),
    "text": (lambda: b"hello, is this an image?", "no image that is read"),
    "gif": (lambda: file_of(GRADIENT, "GIF"), "a GIF; send PNG, JPEG or WebP"),
    "tiff": (lambda: file_of(GRADIENT, "TIFF"), "a TIFF"),
    "bmp": (lambda: file_of(GRADIENT, "BMP"), "a BMP"),
    "svg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', "an SVG"),
    "xml with an entity": (lambda: b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]>', "an SVG or XML"),
    "eps that runs programs": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "no image that is read"),
    "avif": (lambda: file_of(GRADIENT.convert("RGB"), "AVIF"), "an AVIF or HEIC"),
    "png cut off": (lambda: file_of(GRADIENT)[:-40], "damaged"),
    "png of its magic alone": (lambda: b"\x89PNG\r\n\x1a\n", "damaged"),
    "png with garbage for data": (lambda: png_of_header(64, 64, data=b"garbage"), "damaged"),
    "png of another checksum": (lambda: file_of(GRADIENT).replace(b"IDAT", b"IDAT\0\0", 1), "damaged"),
    "jpeg cut off": (lambda: file_of(GRADIENT, "JPEG")[:400], "damaged"),
    "jpeg of its magic alone": (lambda: b"\xff\xd8\xff\xe0", "damaged"),
    "webp cut off": (lambda: file_of(GRADIENT.convert("RGB"), "WEBP")[:100], "damaged"),
    "webp of its magic alone": (lambda: b"RIFF\x04\0\0\0WEBP", "damaged"),
    "png animated": (lambda: animated("PNG"), "is animated, 2 frames"),
    "webp animated": (lambda: animated("WEBP"), "is animated, 2 frames"),
    "bomb: png of 60000 x 60000": (
        lambda: png_of_header(60000, 60000, data=zlib.compress(b"\0" * 60001 * 20)),
        "more than the 4194304 pixels allowed",
    ),
    "bomb: png of 2 ** 31": (lambda: png_of_header(2**31 - 1, 2**31 - 1), "more than"),
    "bomb: png of no width": (lambda: png_of_header(0, 8), "damaged"),
    "bomb: webp of 16384 x 16384": (lambda: webp_of(16384, 16384), "16384 x 16384 pixels"),
    "bomb: jpeg of 5000 x 5000": (
        lambda: file_of(Image.new("L", (5000,) * 2), "JPEG"),
        "more than the 4194304 pixels allowed",
    ),
    "a little too large": (lambda: file_of(Image.new("L", (2100, 2100))), "is 2100 x 2100 pixels, more than"),
    "bomb: text that unpacks to 512 MiB": (
        lambda: png_of_header(8, 8, (b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 29), 9))),
        "damaged",
    ),
    "bomb: profile that unpacks to 512 MiB": (
        lambda: png_of_header(8, 8, (b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 29), 9))),
        "damaged",
    ),
    "too many bytes": (lambda: file_of(GRADIENT) + bytes(1 << 20), "bytes, more than the 1048576 allowed"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_no_image_for_us_gets_one_clear_error_and_the_next_one_is_served(pool, case):
    make, words = REFUSED[case]
    file = make()
    await pool.pixels(file_of(GRADIENT), GREY, owner="t")
    began = time.monotonic()
    with pytest.raises(ImageInvalidError) as caught:
        await pool.pixels(file, GREY, owner="t")
    assert words in caught.value.message
    assert len(caught.value.message) < 300
    assert "/" not in caught.value.message.replace("12/", ""), "no path of this machine"
    assert time.monotonic() - began < 5
    assert len(await pool.pixels(file_of(GRADIENT), GREY, owner="t")) == 64


async def test_a_file_that_decodes_for_ever_is_stopped_and_others_go_on_beside_it(pool):
    bomb = progressive_bomb(12)
    patient = ImagePool(max_pixels=1 << 24, max_bytes=16 << 20, deadline_s=0.5)
    try:
        await patient.pixels(file_of(GRADIENT), GREY, owner="good")
        hostile = asyncio.create_task(patient.pixels(bomb, Wanted(width=3000, height=1000, mode="L"), owner="bad"))
        await asyncio.sleep(0.05)
        for _ in range(20):
            assert len(await patient.pixels(file_of(GRADIENT), GREY, owner="good")) == 64
        with pytest.raises(ImageInvalidError, match="takes more than"):
            await hostile
        assert len(await patient.pixels(file_of(GRADIENT), GREY, owner="bad")) == 64
    finally:
        await patient.close()


async def test_a_killed_process_is_replaced_and_its_image_decoded_by_another(pool):
    await pool.pixels(file_of(GRADIENT), GREY, owner="t")
    for pid in pool.pids():
        os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.1)
    assert len(await pool.pixels(file_of(GRADIENT), GREY, owner="t")) == 64


async def test_ground_and_ink_change_places_only_where_the_ground_is_bright(pool):
    auto = Wanted(width=16, height=16, mode="L", invert="auto")
    square = Image.new("L", (64, 64), 20)
    square.paste(230, (16, 16, 48, 48))
    bright = await pool.pixels(file_of(square), auto, owner="t")
    dark = await pool.pixels(file_of(square.point(lambda value: 250 - value)), auto, owner="t")
    assert max(abs(a - b) for a, b in zip(bright, dark, strict=True)) <= 6
    assert bright[0] < 40
    assert bright[8 * 16 + 8] > 200
    never = await pool.pixels(file_of(square), Wanted(width=16, height=16, mode="L"), owner="t")
    always = await pool.pixels(file_of(square), Wanted(width=16, height=16, mode="L", invert="always"), owner="t")
    assert [255 - value for value in always] == list(never)


@pytest.mark.parametrize("ink", [0, 255])
async def test_what_is_drawn_on_nothing_is_seen_whichever_its_colour(pool, ink):
    image = Image.new("LA", (64, 64), (ink, 0))
    image.paste((ink, 255), (16, 16, 48, 48))
    found = await pool.pixels(file_of(image), Wanted(width=16, height=16, mode="L", invert="auto"), owner="t")
    assert found[0] < 10
    assert found[8 * 16 + 8] > 245


async def test_another_shape_is_stretched_cut_or_filled_up(pool):
    image = Image.new("L", (40, 20), 200)
    found = {
        fit: await pool.pixels(file_of(image), Wanted(width=10, height=10, mode="L", fit=fit), owner="t")
        for fit in ("stretch", "crop", "pad")
    }
    assert set(found["stretch"]) == set(found["crop"]) == {200}
    assert found["pad"][5] == 0
    assert found["pad"][5 * 10 + 5] == 200
