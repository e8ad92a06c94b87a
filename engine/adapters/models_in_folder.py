"""Versions in a folder of this machine, or of a disk that several machines share."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from engine.repository.folders import move_into_place
from engine.repository.models import File
from mesh.resource import tenant_of

__all__ = ["FolderStorage"]


class FolderStorage:
    """Keeps versions in folders: tenant, model, version.

    Args:
        folder: above them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, name: str) -> Path:
        """The folder of a version."""
        model, number = name.rsplit("/versions/", 1)
        return self._of_model(model) / number

    def keep(self, name: str, staged: Path, files: Sequence[File]) -> None:  # noqa: ARG002 -- the port's
        """Move a version to its place."""
        move_into_place(staged, self.of(name))

    def fetch(self, name: str, files: Sequence[File]) -> Path:  # noqa: ARG002 -- the port's
        """The folder of a version; what is wrong in it is found when it is opened."""
        return self.of(name)

    def remove(self, name: str) -> None:
        """Remove a version's folder."""
        shutil.rmtree(self.of(name), ignore_errors=True)

    def remove_model(self, model: str) -> None:
        """Remove a model's folder."""
        shutil.rmtree(self._of_model(model), ignore_errors=True)

    def _of_model(self, model: str) -> Path:
        return self._folder / tenant_of(model) / model.rsplit("/", 1)[1]
