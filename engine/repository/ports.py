"""Where versions are kept: what every storage can do. The adapters are in `engine.adapters`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from engine.repository.models import File

__all__ = ["ModelStorage"]


class ModelStorage(Protocol):
    """Keeps versions, each whole or not at all. Everything here blocks.

    A version is called by its full name; what is there under a name that no row has was left by a crash, and gives way.
    """

    def of(self, name: str) -> Path:
        """The local folder in which a version's files are, or come."""

    def keep(self, name: str, staged: Path, files: Sequence[File]) -> None:
        """Keep a version whose files are in a folder beside, which is gone afterwards.

        Raises:
            StorageFullError: there is no room.
            StorageUnavailableError: the storage does not answer.
        """

    def fetch(self, name: str, files: Sequence[File]) -> Path:
        """A local folder with a version's files.

        Raises:
            DigestMismatchError: what is kept is not what was pushed.
            StorageFullError: there is no room.
            StorageUnavailableError: the storage does not answer.
        """

    def remove(self, name: str) -> None:
        """Forget a version, or what a crash left of it."""

    def remove_model(self, model: str) -> None:
        """Forget all versions of a model."""
