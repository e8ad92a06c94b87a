"""A version's folder: how it comes into its place, and what is in it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from engine.models import File

__all__ = ["files_in", "move_into_place", "sweep"]


def move_into_place(staged: Path, target: Path) -> None:
    """Put a whole upload in its place; what a crash left there was never recorded."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    staged.rename(target)


def sweep(folder: Path, prefix: str) -> None:
    """Remove uploads that a crash left behind."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in folder.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)


def files_in(folder: Path) -> list[File]:
    """The files of a version, by name, with their digests."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            with path.open("rb") as file:
                found.append(File(path.name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()))
    return found
