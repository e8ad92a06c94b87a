"""What is half done: a folder in the home for copies in the clear, a file beside a backup that is to become it.

Both are gone at the end. What a process that was killed has left is removed by the next one; what somebody works with
is locked, and stays.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from cli.backup.copying import no_room_at

__all__ = ["SCRATCH", "scratch", "sweep", "unfinished"]

SCRATCH = ".scratch-"
"""How the names of such folders begin."""
_ENDING = ".unfinished"


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A folder of mode 0700 that is gone when the block ends.

    Args:
        parent: the home; what is in the folder lies in the clear there anyway.
    """
    sweep(parent)
    with no_room_at(parent):
        folder, descriptor = _claimed(lambda: tempfile.mkdtemp(prefix=SCRATCH, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


@contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """A file of mode 0600 beside the target, to be renamed to it; gone when the block ends."""
    beginning = f".{target.name}."
    _sweep(target.parent.glob(f"{escape(beginning)}*{_ENDING}"))

    def make() -> str:
        descriptor, name = tempfile.mkstemp(prefix=beginning, suffix=_ENDING, dir=target.parent)
        os.close(descriptor)
        return name

    file, descriptor = _claimed(make)
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)


def sweep(parent: Path) -> None:
    """Remove the folders of processes that were killed."""
    _sweep(parent.glob(f"{SCRATCH}*"))


def _claimed(make: Callable[[], str]) -> tuple[Path, int]:
    """Make something and lock it; once more where it was swept in between."""
    while True:
        path = Path(make())
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():
            return path, descriptor
        os.close(descriptor)


def _sweep(paths: Iterable[Path]) -> None:
    """Remove what nobody has locked."""
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue  # it has just gone, or is nothing of ours
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
