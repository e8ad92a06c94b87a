"""A file for a secret: its owner's alone, and never one that was there before."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.client import FileError

__all__ = ["new_secret_file"]


@contextmanager
def new_secret_file(path: Path) -> Iterator[Callable[[str], object]]:
    """Make the file, of mode 0600, before there is a secret; yields what writes it. It goes again where that fails.

    Raises:
        FileError: it is there already.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise FileError(
            f"{path}: is there already; a key is never overwritten, choose another name", file=path
        ) from None
    with os.fdopen(descriptor, "w") as file:
        try:
            yield file.write
            file.flush()
        except BaseException:  # a Ctrl-C leaves no empty file that the next attempt would be refused for
            path.unlink()
            raise
