"""Handwritten digits: a classifier trained on scikit-learn's own images, which it is installed with.

A support-vector machine with calibrated probabilities. It learns from pixels that went the whole way that a request's
image goes, file to pixels, so that serving shows it nothing new; and it is kept only if it is good on images that it
has not seen.
"""

from __future__ import annotations

import json
import warnings
from functools import partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from engine.manifest import ImageClassificationManifest, parse_manifest
from engine.runtime.onnx import onnxruntime
from engine.servables.image_classifier import dressed
from engine.servables.image_input import ImageInput, work_out
from engine.tensor import TensorSpec
from mesh.sandboxed.images import Images
from tools.models.place import ROOT, SetupError, digest_of, place, say

__all__ = ["MIN_ACCURACY", "MODEL", "draw", "prepare_digits", "split"]

MODEL = "digits"
MIN_ACCURACY = 0.97
_SEED = 7
_TIMES = (1, 4)
"""How many times as large as they are the images are drawn for training: as they are, and smooth."""

MANIFEST = """\
# Handwritten digits, 0 to 9, bright on dark or dark on light, of any size.
# Trained on three quarters of scikit-learn's digits (UCI ML hand-written digits, CC BY 4.0).
name: digits
kind: image-classification
scale: [0, 16]
invert: auto
contrast: true
trim: true
fit: pad
"""

Grey = NDArray[np.float64]
"""Images as scikit-learn has them: (n, 64), 0 for the ground to 16 for ink."""


def split() -> tuple[Grey, NDArray[np.int64], Grey, NDArray[np.int64]]:
    """Images and truths to train with, then images and truths held out; always the same."""
    images, truths = load_digits(return_X_y=True)
    train, held, train_truths, held_truths = train_test_split(
        images, truths, test_size=0.25, random_state=_SEED, stratify=truths
    )
    return train, train_truths, held, held_truths


def draw(
    image: Grey, *, times: int = 1, dark_on_light: bool = False, file: Literal["PNG", "JPEG", "WEBP"] = "PNG"
) -> bytes:
    """One image (64,) as a file.

    Args:
        image: its pixels.
        times: how many times 8 pixels it is wide and high.
        dark_on_light: ink on paper instead of bright on black.
        file: the format.
    """
    pixels = np.rint(image.reshape(8, 8) * 255 / 16).astype(np.uint8)
    made = Image.fromarray(255 - pixels if dark_on_light else pixels)
    if times > 1:
        made = made.resize((8 * times, 8 * times), Image.Resampling.BICUBIC)
    written = BytesIO()
    made.save(written, file)
    return written.getvalue()


def prepare_digits(dest: Path) -> Path:
    """Prepare `dest/digits/1`; a second time returns at once.

    Raises:
        SetupError: the model that came out is not good enough.
    """
    own = [Path(__file__), ROOT / "mesh" / "sandboxed" / "images.py", ROOT / "engine" / "servables" / "image_input.py"]
    libraries = {name: version(name) for name in ("scikit-learn", "skl2onnx", "pillow")}
    return place(dest, MODEL, {"made-by": digest_of(own, MANIFEST), **libraries}, _make)


def _make(folder: Path) -> None:
    say(f"{MODEL}: training on scikit-learn's digits")
    (folder / "model.yaml").write_text(MANIFEST, encoding="utf-8")
    train, train_truths, held, held_truths = split()
    given = _input()
    table = np.concatenate([_features(train, given, times=times) for times in _TIMES])
    model = CalibratedClassifierCV(SVC(C=10, gamma=0.001), ensemble=False)
    model.fit(table, np.concatenate([train_truths] * len(_TIMES)))
    graph = _exported(model, table[:1])
    for times in _TIMES:
        _check(graph, _features(held, given, times=times), held_truths, f"{8 * times} x {8 * times} pixels")
    (folder / "model.onnx").write_bytes(graph)


def _input() -> ImageInput:
    """How the engine will prepare a request's image."""
    manifest = parse_manifest(MANIFEST.encode(), model=MODEL)
    assert isinstance(manifest, ImageClassificationManifest)  # noqa: S101 -- it stands above
    return work_out(manifest, [TensorSpec("image", "FP32", (-1, 64))], dressed(manifest))[0]


def _features(images: Grey, given: ImageInput, *, times: int) -> NDArray[np.float32]:
    """What the engine makes of the images' files, float32 (n, 64)."""
    wanted = json.dumps({**msgspec.structs.asdict(given.wanted), "max_pixels": 1 << 20}).encode()
    pixels = partial(Images().pixels, wanted=wanted)
    return np.asarray(given.tensor([pixels(draw(image, times=times)) for image in images]), np.float32)


def _exported(model: Any, example: NDArray[np.float32]) -> bytes:  # noqa: ANN401 -- any classifier of scikit-learn
    from skl2onnx import to_onnx  # here, as it changes how warnings are shown

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bytes(
            to_onnx(model, example, options={id(model): {"zipmap": False}}, target_opset=18).SerializeToString()
        )


def _check(graph: bytes, table: NDArray[np.float32], truths: NDArray[np.int64], size: str) -> None:
    """See that the exported model is good on held-out images.

    Raises:
        SetupError: it is not.
    """
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    labels = session.run(["label"], {session.get_inputs()[0].name: table})[0]
    right = float((labels == truths).mean())
    if right < MIN_ACCURACY:
        raise SetupError(
            f"{MODEL}: {right:.1%} of the {len(truths)} held-out images at {size} are right, at least "
            f"{MIN_ACCURACY:.0%} are needed; are scikit-learn and Pillow the versions of requirements/run.txt?"
        )
    say(f"{MODEL}: {right:.1%} of {len(truths)} held-out images at {size} are right")
