"""Which versions were being loaded when this engine last ended: one of them may have ended it.

What becomes of them is `engine.repository.loading`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Marks"]


class Marks:
    """A file a version while it is loaded.

    Args:
        folder: of this engine's alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left = {path.name for path in folder.iterdir()} if folder.is_dir() else set()

    def left(self, name: str) -> bool:
        """Whether a version was being loaded when the engine ended, and was not loaded since."""
        return _file(name) in self._left

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Mark a version; a disk that takes no mark keeps nobody from loading."""
        mark = self._folder / _file(name)
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            mark.touch()
        try:
            yield
        finally:
            self._left.discard(mark.name)
            with suppress(OSError):
                mark.unlink()


def _file(name: str) -> str:
    return name.replace("/", ":")
