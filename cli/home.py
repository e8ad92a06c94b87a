"""The platform's home: which file lies where, and who holds it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.errors import Code, TiationError

__all__ = ["Home", "HomeInUseError", "HomeUnusableError", "KeyMissingError", "NotRunningError"]

_MOST_PATH_BYTES = 107 - len("/gateway/admin.sock")
"""The front proxy's admin socket lies in the home, and the kernel takes 107 bytes of path for a socket."""
_PROBE_S = 0.5
"""Whoever only asks for the holder holds the lock for a moment; `hold` waits that out."""


class HomeInUseError(TiationError):
    """Another platform runs on this home."""

    code = Code.FAILED_PRECONDITION
    reason = "HOME_IN_USE"


class HomeUnusableError(TiationError):
    """The folder cannot be a home."""

    code = Code.INVALID_ARGUMENT
    reason = "HOME_UNUSABLE"


class KeyMissingError(TiationError):
    """The home holds no operator's key."""

    code = Code.FAILED_PRECONDITION
    reason = "OPERATOR_KEY_MISSING"


class NotRunningError(TiationError):
    """No platform runs on this home."""

    code = Code.UNAVAILABLE
    reason = "PLATFORM_NOT_RUNNING"


@dataclass(frozen=True, slots=True)
class Home:
    """The state folder of one platform.

    Attributes:
        path: the folder, absolute.
    """

    path: Path

    @property
    def gateway_file(self) -> Path:
        """Where whoever wants to connect finds how; exists while the platform is ready."""
        return self.path / "gateway.json"

    @property
    def token_file(self) -> Path:
        """An access token that always holds for ten more minutes."""
        return self.path / "token"

    @property
    def operator_key(self) -> Path:
        """The operator's API key."""
        return self.path / "operator.key"

    @property
    def ca(self) -> Path:
        """What clients trust."""
        return self.path / "ca.pem"

    @property
    def lock_file(self) -> Path:
        """Held by the supervisor; its process id stands in it."""
        return self.path / "lock"

    def key(self) -> str:
        """The operator's API key itself.

        Raises:
            KeyMissingError: there is none.
        """
        try:
            return self.operator_key.read_text().strip()
        except FileNotFoundError:
            raise KeyMissingError(
                f"{self.operator_key} is missing; `tiation up --home {self.path}` makes a home with its key"
            ) from None

    def log(self, process: str) -> Path:
        """Where a process writes its log."""
        return self.path / "logs" / f"{process}.log"

    def make(self) -> None:
        """Make the folder, for its owner alone.

        Raises:
            HomeUnusableError: something else has that name, or the name is too long.
        """
        if len(os.fsencode(self.path)) > _MOST_PATH_BYTES:
            raise HomeUnusableError(
                f"{self.path} is too long a path for a home: {_MOST_PATH_BYTES} bytes is the most, because a socket "
                "lies in it; choose a shorter one with `--home`"
            )
        if self.path.exists() and not self.path.is_dir():
            raise HomeUnusableError(f"{self.path} is no folder; choose another home with `--home`")
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        (self.path / "logs").mkdir(mode=0o700, exist_ok=True)

    def hold(self) -> int:
        """Take the home for this process; returns the descriptor that holds it.

        Raises:
            HomeInUseError: another process has it.
        """
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + _PROBE_S
        while not _locked(descriptor, fcntl.LOCK_EX):
            if time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            holder = self.lock_file.read_text().strip()
            os.close(descriptor)
            raise HomeInUseError(
                f"a platform already runs on {self.path} (process {holder}); `tiation down` stops it, "
                "`--home` and `--port` start another one beside it"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        return descriptor

    def holder(self) -> int | None:
        """The process that holds the home, 0 while it has not said which it is; None where none does."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            if _locked(descriptor, fcntl.LOCK_SH):
                return None
            text = self.lock_file.read_text().strip()
            return int(text) if text.isdigit() else 0
        finally:
            os.close(descriptor)

    def gateway(self) -> dict[str, Any]:
        """What `gateway.json` says.

        Raises:
            NotRunningError: the platform does not run, or is not ready yet.
        """
        try:
            found = json.loads(self.gateway_file.read_text())
        except (FileNotFoundError, ValueError):
            found = None
        if not isinstance(found, dict) or self.holder() is None:
            raise NotRunningError(
                f"no platform is ready on {self.path}; start one with `tiation up --home {self.path}`"
            )
        return found


def _locked(descriptor: int, kind: int) -> bool:
    """Take the lock if it is free."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
