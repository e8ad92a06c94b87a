"""A model that ships with the platform on its way to its place: made beside it, and there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

__all__ = ["ROOT", "SetupError", "check_disk", "digest_of", "place", "say"]

ROOT = Path(__file__).resolve().parents[2]


class SetupError(Exception):
    """A model could not be prepared; the message says what to do."""


def say(text: str) -> None:
    """Tell whoever sets up how far it is."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def digest_of(files: Sequence[Path], text: str) -> str:
    """What a result depends on, as one SHA-256: files of this repository and a text."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.read_bytes())
    digest.update(text.encode())
    return digest.hexdigest()


def check_disk(folder: Path, needed_bytes: int) -> None:
    """See that there is room.

    Raises:
        SetupError: there is not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise SetupError(
            f"{folder}: {free >> 20} MiB free, the model needs {needed_bytes >> 20} MiB; make room and run again"
        )


def place(dest: Path, model: str, stamp: Mapping[str, str], make: Callable[[Path], None]) -> Path:
    """Have `dest/model/1` made, unless it is there already with the same stamp.

    Args:
        dest: where models are.
        model: its id.
        stamp: what the result depends on.
        make: writes the version's files into the folder that it is given.

    Raises:
        SetupError: as `make` says.
    """
    version = dest / model / "1"
    kept = version / ".stamp.json"
    if kept.exists() and json.loads(kept.read_text()) == stamp:
        return version
    started = time.monotonic()
    dest.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=dest, prefix=".staging-"))
    try:
        make(scratch)
        (scratch / kept.name).write_text(json.dumps(stamp))
        scratch.chmod(0o755)
        _swap(scratch, version)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    say(f"{model}: ready in {version} after {time.monotonic() - started:.1f} s")
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
