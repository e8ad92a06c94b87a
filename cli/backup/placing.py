"""A home that is being filled: everything is staged in it and put in place; until all is, the home says that it is not.

Whatever ends a restore, the next one finds in the plan what it has put where, takes that out again and begins anew.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cli.backup.copying import sync
from cli.backup.elsewhere import SETTINGS
from cli.backup.scratch import SCRATCH, sweep
from cli.holding import RESTORE
from cli.home import Home
from mesh.errors import Code, TiationError
from mesh.svid import write_private

__all__ = ["HomeNotEmptyError", "Staging", "staging"]

_STAGED, _PLAN = "home", "plan.json"
_DONE = f"{SCRATCH}restored"
_LOST = "lost+found"
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class HomeNotEmptyError(TiationError):
    """A backup goes into an empty home only."""

    code = Code.FAILED_PRECONDITION
    reason = "HOME_NOT_EMPTY"


class Staging:
    """A restore under way in a home that this process holds.

    Args:
        home: the home to be.

    Attributes:
        folder: where to put everything first.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self.folder = home.restoring / _STAGED
        self._handlers: dict[signal.Signals, Any] = {}

    def begin(self) -> None:
        """Undo what a restore that was killed has done, see that nothing else is there, and begin.

        Raises:
            HomeNotEmptyError: something is.
        """
        self.undo()
        sweep(self._home.path)
        for path in self._home.path.iterdir():
            if path.name not in (SETTINGS, self._home.lock_file.name) and not _is_empty(path):
                raise HomeNotEmptyError(
                    f"{self._home.path} is not empty ({path.name}); restore into another one with --home, or move that "
                    "one away first",
                    home=self._home.path,
                )
        self._home.path.chmod(0o700)
        self.folder.mkdir(mode=0o700, parents=True)

    def place(self) -> None:
        """Put what is staged where it belongs.

        From then to the end of the restore nobody stops it: that takes a moment, and where PostgreSQL has kept its part
        it cannot be undone.
        """
        home = self._home.path
        below = [path.relative_to(self.folder) for path in sorted(self.folder.rglob("*"))]
        plan = {
            "files": [str(path) for path in below if not (self.folder / path).is_dir()],
            "folders": [str(path) for path in below if (self.folder / path).is_dir() and not (home / path).is_dir()],
        }
        write_private(self._home.restoring / _PLAN, json.dumps(plan))
        sync(self._home.restoring)
        sync(home)
        for path in sorted(self.folder.iterdir()):
            _move(path, home / path.name)
        for name in plan["folders"]:
            sync(home / name)
        sync(home)
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, signal.SIG_IGN) for number in _STOPPING}

    def end(self) -> None:
        """The home is whole: by one rename it says so."""
        done = self._home.path / _DONE
        self._home.restoring.rename(done)
        sync(self._home.path)
        shutil.rmtree(done, ignore_errors=True)

    def undo(self) -> None:
        """Take out again what was put in place; what else is in the home stays."""
        home, done = self._home.path, self._home.path / _DONE
        with suppress(FileNotFoundError):
            plan = json.loads((self._home.restoring / _PLAN).read_text())
            for name in plan["files"]:
                (home / name).unlink(missing_ok=True)
            for name in reversed(plan["folders"]):
                with suppress(OSError):  # somebody has put something into it
                    (home / name).rmdir()
            sync(home)
        shutil.rmtree(done, ignore_errors=True)
        with suppress(FileNotFoundError):
            self._home.restoring.rename(done)
        shutil.rmtree(done, ignore_errors=True)

    def heed(self) -> None:
        """Heed signals again."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


@contextmanager
def staging(path: Path) -> Iterator[Staging]:
    """Hold a home and fill it; it is as it was before if the block fails.

    Raises:
        HomeInUseError: a platform or another command has it.
        HomeNotEmptyError: there is something in it.
        HomeUnusableError: it can be no home.
    """
    home = Home(path)
    home.check()
    fresh, unlocked = not path.exists(), not home.lock_file.exists()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = home.hold(RESTORE)
    restore = Staging(home)
    try:
        try:
            restore.begin()
            yield restore
            restore.end()
        except BaseException:  # Ctrl-C and a signal to end leave nothing half-done either
            restore.undo()
            if unlocked:
                home.lock_file.unlink(missing_ok=True)
            if fresh:
                with suppress(OSError):
                    path.rmdir()
            raise
    finally:
        os.close(descriptor)
        restore.heed()


def _is_empty(path: Path) -> bool:
    """Whether it is a folder with nothing but empty folders in it: where something is mounted, for instance."""
    return path.is_dir() and (path.name == _LOST or all(_is_empty(each) for each in path.iterdir()))


def _move(source: Path, target: Path) -> None:
    """Move a file or a folder; a folder that is there already, empty, is filled."""
    if source.is_dir() and target.is_dir():
        for each in sorted(source.iterdir()):
            _move(each, target / each.name)
        sync(target)
        return
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    """Copy to another file system."""
    if source.is_dir():
        target.mkdir(mode=0o700)
        for each in sorted(source.iterdir()):
            _copy(each, target / each.name)
        return
    with (
        source.open("rb") as data,
        os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out,
    ):
        shutil.copyfileobj(data, out)
        out.flush()
        os.fsync(out.fileno())
