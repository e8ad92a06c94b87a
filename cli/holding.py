"""Who holds a home: the lock in it, and what its holder has written there. What else lies in a home is `cli.home`'s."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RESTORE", "UP", "UPGRADE", "Holder", "holder_of", "take"]

UP, UPGRADE, RESTORE = "up", "upgrade", "restore"
"""What a home is held for: the commands that do."""
_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a home.

    Attributes:
        pid: its process; 0 while it has not said which it is, or is none of this machine's.
        purpose: the command that it runs; empty while `pid` is 0.
    """

    pid: int
    purpose: str

    def __str__(self) -> str:
        """As people are told."""
        return f"`tiation {self.purpose}` (process {self.pid})"


_UNKNOWN = Holder(0, "")


def take(file: Path, purpose: str, patience_s: float) -> int | None:
    """Take a lock for this process and write into it who that is.

    Args:
        file: the lock; it is made.
        purpose: the command that this process runs.
        patience_s: how long another holder is waited for.

    Returns:
        The descriptor that holds it; None where somebody else keeps it.
    """
    said = json.dumps({"pid": os.getpid(), "purpose": purpose, "started": _started(os.getpid())}).encode()
    deadline = time.monotonic() + patience_s
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if _locked(descriptor, fcntl.LOCK_EX) and _is_at(descriptor, file):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, said, 0)
                return descriptor
        except BaseException:  # Ctrl-C in here would otherwise keep the lock for as long as the process lives
            os.close(descriptor)
            raise
        os.close(descriptor)
        if time.monotonic() >= deadline:
            return None
        time.sleep(_PAUSE_S)


def holder_of(file: Path) -> Holder | None:
    """Who holds a lock; None where nobody does."""
    try:
        descriptor = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        if _locked(descriptor, fcntl.LOCK_SH):
            return None
        return _said(os.pread(descriptor, 4096, 0))
    finally:
        os.close(descriptor)


def _said(text: bytes) -> Holder:
    """What a holder wrote, if it is true: an earlier holder's words stand there until the next one has its own."""
    try:
        said = json.loads(text)
        found, started = Holder(int(said["pid"]), str(said["purpose"])), said["started"]
    except (ValueError, KeyError, TypeError):
        return _UNKNOWN
    return found if started and started == _started(found.pid) else _UNKNOWN


def _started(pid: int) -> str:
    """When a process was started, in the kernel's ticks since it booted (proc(5), field 22); empty where none is."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return fields[19]  # the third of the file's fields is the first after the name, which may hold anything


def _is_at(descriptor: int, file: Path) -> bool:
    """Whether a lock that was opened is still the one in the home; a restore that fails takes its own away."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _locked(descriptor: int, kind: int) -> bool:
    """Take the lock if it is free."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
