"""Images inside a worker: strangers' files decoded and brought to the size that a model takes.

Deadlines and memory are bounded from outside, by `mesh.sandbox` and `mesh.sandboxed.confine`. What can be read from a
file's first bytes, its format and its measures, is checked before anything is decoded.
"""

from __future__ import annotations

import json
import struct
import warnings
from io import BytesIO
from typing import Any, Final

# All that Pillow would import later, when no file can be opened any more.
from PIL import (
    ExifTags,  # noqa: F401 -- Pillow's own, while it reads orientation
    Image,
    ImageChops,
    ImageFile,
    ImageOps,
    JpegImagePlugin,  # noqa: F401 -- registers the format
    MpoImagePlugin,  # noqa: F401 -- as above: what many telephones write
    PngImagePlugin,  # noqa: F401 -- as above
    TiffImagePlugin,  # noqa: F401 -- Pillow's own, while it reads orientation
    WebPImagePlugin,  # noqa: F401 -- as above
)

from mesh.sandboxed.frames import Status
from mesh.sandboxed.refusal import Refusal, capped

__all__ = ["Images"]

_FORMATS: Final = ("PNG", "JPEG", "WEBP")
_OTHERS: Final = (
    (b"GIF8", "a GIF"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"BM", "a BMP"),
    (b"%PDF", "a PDF"),
    (b"8BPS", "a Photoshop file"),
    (b"\0\0\1\0", "an icon"),
)
_ORIENTATION: Final = 0x0112
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE: Final = frozenset(_TURNS[at] for at in (5, 6, 7, 8))
_WORKING: Final = 512
"""Larger images are first made nearly this small, longest side: what follows needs no more."""


class Images:
    """Decodes images."""

    def __init__(self) -> None:
        self._max_pixels = 0
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        warnings.simplefilter("ignore")
        Image.preinit()
        wanted = {"max_pixels": 64, "width": 4, "height": 4, "mode": "L"}
        wanted |= {"invert": "auto", "contrast": True, "trim": True, "fit": "pad"}
        for kind in ("PNG", "JPEG", "WEBP"):  # whatever the libraries load late is loaded now
            file = BytesIO()
            Image.new("RGB", (8, 8), (9, 9, 9)).save(file, kind)
            self.pixels(file.getvalue(), json.dumps(wanted).encode())

    def pixels(self, data: bytes, wanted: bytes) -> bytes:
        """An image's pixels. As `decoded`."""
        return self.decoded(data, wanted)[2]

    def decoded(self, data: bytes, wanted: bytes) -> tuple[int, int, bytes]:
        """How wide and high an image is, held upright, and the pixels that are wanted: a byte a channel, row by row.

        Args:
            data: the file.
            wanted: a JSON object: `max_pixels` of the file; `width` and `height` of what is wanted; `mode`, `L` or
                `RGB`; `invert`, `trim`, `contrast`, `fit` and `fill` as `engine.manifest.images` says.

        Raises:
            Refusal: it is no image that is read, or larger than allowed.
        """
        how: dict[str, Any] = json.loads(wanted)
        self._max_pixels = Image.MAX_IMAGE_PIXELS = how["max_pixels"]
        image, size = self._opened(data, how)
        try:
            # Pillow's decoders raise whatever a damaged file leads them to.
            turn = _turn(image)
            image = _flat(image if turn is None else image.transpose(turn), how)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 -- as above
            raise _refusal(f"is damaged and cannot be decoded ({_words(error)})") from None
        width, height = reversed(size) if turn in _ON_ITS_SIDE else size
        return width, height, _fitted(_prepared(image, how), how).tobytes()

    def _opened(self, data: bytes, how: dict[str, Any]) -> tuple[Image.Image, tuple[int, int]]:
        """The image, its header read and found good, nothing decoded yet; and its width and height in the file."""
        _check_format(data)
        if data[8:12] == b"WEBP":  # Pillow makes room for the whole picture before it tells how large that is
            self._check_size(*_webp_size(data))
        try:
            image = Image.open(BytesIO(data), formats=_FORMATS)
            size = image.size
            self._check_size(*size)
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        except Refusal:
            raise
        except MemoryError:
            raise
        except Image.DecompressionBombError:
            raise _refusal(f"has more than the {self._max_pixels} pixels allowed; make it smaller") from None
        except Exception as error:  # noqa: BLE001 -- as above
            raise _refusal(f"is damaged: its header cannot be read ({_words(error)})") from None
        if frames != 1:
            raise _refusal(f"is animated, {frames} frames; send one picture")
        if image.format == "JPEG":  # decoded smaller at once, never smaller than what is wanted
            image.draft(None, (max(_WORKING, how["width"]), max(_WORKING, how["height"])))
        return image, size

    def _check_size(self, width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise _refusal("has no pixels")
        if width * height > self._max_pixels:
            raise _refusal(f"is {width} x {height} pixels, more than the {self._max_pixels} allowed; make it smaller")


def _refusal(message: str) -> Refusal:
    return Refusal(Status.IMAGE_INVALID, message=capped(message))


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _check_format(data: bytes) -> None:
    """Refuse by the first bytes what is none of the formats, and say what it is where that can be seen."""
    if not data:
        raise _refusal("is empty; send the bytes of a PNG, JPEG or WebP file")
    if data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return
    found = next((what for magic, what in _OTHERS if data.startswith(magic)), "")
    head = data[:256].lstrip().lower()
    if not found and head.startswith((b"<svg", b"<?xml", b"<!doctype")):
        found = "an SVG or XML text"
    if not found and data[4:12] in (b"ftypavif", b"ftypheic", b"ftypmif1"):
        found = "an AVIF or HEIC file"
    said = f"is {found}" if found else "is no image that is read here"
    raise _refusal(f"{said}; send PNG, JPEG or WebP")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height from a WebP file's first chunk (RFC 9649)."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise _refusal("is damaged: its header is cut off")
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", body[6:10])
        return width & 0x3FFF, height & 0x3FFF
    raise _refusal("is damaged: its header cannot be read")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How it is turned to be as the camera was held; what metadata says wrongly is not looked at."""
    image.load()  # first: for metadata Pillow loads the picture too, and forgets how that ended
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 -- strangers' metadata; the picture may be good without it
        return None


def _flat(image: Image.Image, how: dict[str, Any]) -> Image.Image:
    """One of the two modes, 8 bits a channel, not much larger than needed, what was transparent filled in."""
    mode: str = how["mode"]
    if image.mode.startswith("I;16") or image.mode == "I":
        image = image.point(lambda value: value * (1 / 257)).convert("L")
    clear = image.mode in ("PA", "LA", "RGBA") or "transparency" in image.info
    image = _shrunk(image.convert("RGBA" if clear else mode), how)
    return _over_ground(image, how).convert(mode) if clear else image


def _shrunk(image: Image.Image, how: dict[str, Any]) -> Image.Image:
    """Its longest side at most twice the size to work with; the pixels that become one are averaged."""
    factor = max(image.size) // max(_WORKING, how["width"], how["height"])
    return image.reduce(factor) if factor > 1 else image


def _over_ground(image: Image.Image, how: dict[str, Any]) -> Image.Image:
    """Over white, or over black where white would hide what is bright on nothing."""
    ground = 255
    if how["invert"] == "auto":
        alpha = image.getchannel("A").point(lambda value: 255 if value > 127 else 0)
        histogram = image.convert("L").histogram(alpha)
        count = sum(histogram)
        if count and sum(value * times for value, times in enumerate(histogram)) / count > 127:
            ground = 0
    return Image.alpha_composite(Image.new("RGBA", image.size, (ground, ground, ground, 255)), image)


def _prepared(image: Image.Image, how: dict[str, Any]) -> Image.Image:
    """Bright on dark, stretched and cut to what is drawn, as far as it is asked for."""
    if how["invert"] == "always" or (how["invert"] == "auto" and _is_dark_on_light(image)):
        image = ImageChops.invert(image)
    if how["contrast"]:
        image = _stretched(image)
    if how["trim"]:
        box = image.convert("L").point(lambda value: 255 if value > 64 else 0).getbbox()
        image = image.crop(box) if box else image
    return image


def _ground(image: Image.Image) -> list[float]:
    """How bright the ground is in each corner, sorted: what is drawn seldom reaches there, however large it is."""
    grey = image.convert("L")
    width, height = grey.size
    across, down = max(1, width // 16), max(1, height // 16)
    corners = [(x, y, x + across, y + down) for x in (0, width - across) for y in (0, height - down)]
    return sorted(sum(grey.crop(corner).tobytes()) / (across * down) for corner in corners)


def _range(image: Image.Image) -> tuple[int, int]:
    """The darkest and the brightest there is."""
    there = [value for value, count in enumerate(image.convert("L").histogram()) if count]
    return there[0], there[-1]


def _is_dark_on_light(image: Image.Image) -> bool:
    """Whether the ground is nearer to the brightest than to the darkest."""
    return sum(_ground(image)[1:3]) > sum(_range(image))


def _stretched(image: Image.Image) -> Image.Image:
    """The ground, a shadow in one corner included, becomes black and the brightest becomes white."""
    ground = _ground(image)[-1]
    brightest = _range(image)[1]
    if brightest - ground < 32:  # nothing is drawn there
        return image
    factor = 255 / (brightest - ground)
    return image.point(lambda value: round(max(0.0, min(255.0, (value - ground) * factor))))


def _fitted(image: Image.Image, how: dict[str, Any]) -> Image.Image:
    """The size that is wanted: stretched, cut at the sides, or filled up at the sides."""
    size = (how["width"], how["height"])
    if image.size == size:
        return image
    way = Image.Resampling.BILINEAR
    if how["fit"] == "crop":
        return ImageOps.fit(image, size, way)
    if how["fit"] == "pad":
        # Filled up before it is scaled: at 8 x 8 half a pixel counts.
        width, height = image.size
        factor = max(width / size[0], height / size[1])
        full = (max(width, round(size[0] * factor)), max(height, round(size[1] * factor)))
        grey: int = how.get("fill", 0)
        filled = Image.new(image.mode, full, grey if image.mode == "L" else (grey, grey, grey))
        filled.paste(image, ((full[0] - width) // 2, (full[1] - height) // 2))
        image = filled
    return image.resize(size, way)
