"""The platform's home: which file lies where, and who holds it."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.errors import Code, TiationError

__all__ = ["Home", "HomeInUseError", "NotRunningError"]


class HomeInUseError(TiationError):
    """Another platform runs on this home."""

    code = Code.FAILED_PRECONDITION
    reason = "HOME_IN_USE"


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

    def log(self, process: str) -> Path:
        """Where a process writes its log."""
        return self.path / "logs" / f"{process}.log"

    def make(self) -> None:
        """Make the folder, for its owner alone."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        (self.path / "logs").mkdir(mode=0o700, exist_ok=True)

    def hold(self) -> int:
        """Take the home for this process; returns the descriptor that holds it.

        Raises:
            HomeInUseError: another process has it.
        """
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
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
        """The process that holds the home; None where none does."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            text = self.lock_file.read_text().strip()
            return int(text) if text.isdigit() else 0
        else:
            return None
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
