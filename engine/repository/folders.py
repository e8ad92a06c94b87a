"""A version's folder: how it comes into its place, and what is in it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from engine.errors import ManifestError, ModelFileError
from engine.repository.models import File

__all__ = ["bytes_in", "files_in", "graph_file", "move_into_place", "sweep"]


def move_into_place(staged: Path, target: Path) -> None:
    """Put a whole upload in its place; what a crash left there was never recorded."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    staged.rename(target)


def graph_file(folder: Path, said: str | None) -> tuple[Path, tuple[str, ...]]:
    """A version's ONNX file, and the line of the manifest that says so where the manifest itself does not.

    Raises:
        ManifestError: there are several.
        ModelFileError: there is none.
    """
    if said is not None:
        return folder / said, ()
    found = sorted(path.name for path in folder.glob("*.onnx") if not path.name.startswith("."))
    if "model.onnx" in found:
        found = ["model.onnx"]
    if len(found) > 1:
        raise ManifestError(f"there is more than one ONNX file; add this line to model.yaml: `file: {found[0]}`")
    if not found:
        raise ModelFileError("model.onnx: is missing; push it together with model.yaml", file="model.onnx")
    return folder / found[0], (f"file: {found[0]}",)


def sweep(folder: Path, prefix: str, ours: str) -> None:
    """Remove uploads that a crash left behind; those whose names begin with `ours` are under way."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in folder.glob(f"{prefix}*"):
        if not left.name.startswith(ours):
            shutil.rmtree(left, ignore_errors=True)


def bytes_in(folder: Path) -> int:
    """What the files of a version come to."""
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def files_in(folder: Path) -> list[File]:
    """The files of a version, by name, with their digests."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            with path.open("rb") as file:
                found.append(File(path.name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()))
    return found
