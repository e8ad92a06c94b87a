"""The platform's home: which file lies where, and who holds it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.holding import RESTORE, UP, Holder, holder_of, take
from mesh.errors import Code, TiationError

__all__ = [
    "Home",
    "HomeInUseError",
    "HomeUnusableError",
    "KeyMissingError",
    "NotRunningError",
    "RestoreUnfinishedError",
]

_MOST_PATH_BYTES = 107 - len("/gateway/admin.sock")
"""The front proxy's admin socket lies in the home, and the kernel takes 107 bytes of path for a socket."""
_PROBE_S = 0.5
"""Whoever only asks for the holder holds the lock for a moment; `hold` waits that out."""


class HomeInUseError(TiationError):
    """Another process holds this home: a platform, or a command that changes its state."""

    code = Code.FAILED_PRECONDITION
    reason = "HOME_IN_USE"


class RestoreUnfinishedError(TiationError):
    """A restore into this home was cut off: not everything is there."""

    code = Code.FAILED_PRECONDITION
    reason = "RESTORE_UNFINISHED"


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
        """Held by the supervisor, or by a command that changes the state; who it is stands in it."""
        return self.path / "lock"

    @property
    def restoring(self) -> Path:
        """What a restore works in; while it is there, the home is not whole."""
        return self.path / ".restoring"

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

    def check(self) -> None:
        """Refuse what can be no home.

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

    def make(self) -> None:
        """Make the folder, for its owner alone.

        Raises:
            HomeUnusableError: as `check`.
        """
        self.check()
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        (self.path / "logs").mkdir(mode=0o700, exist_ok=True)

    def hold(self, purpose: str = UP) -> int:
        """Take the home for this process; returns the descriptor that holds it.

        Args:
            purpose: the command that takes it.

        Raises:
            HomeInUseError: another process has it.
            RestoreUnfinishedError: as `check_whole`; a restore itself takes it all the same.
        """
        descriptor = take(self.lock_file, purpose, _PROBE_S)
        if descriptor is None:
            raise self.in_use(self.holder())
        if purpose != RESTORE:
            try:
                self.check_whole()
            except RestoreUnfinishedError:
                os.close(descriptor)
                raise
        return descriptor

    def holder(self) -> Holder | None:
        """Who holds the home; None where nobody does."""
        return holder_of(self.lock_file)

    def runs(self) -> bool:
        """Whether a platform has the home, as far as its holder has said."""
        holder = self.holder()
        return holder is not None and holder.purpose in ("", UP)

    def in_use(self, holder: Holder | None) -> HomeInUseError:
        """What is said to whoever wants a home that is held."""
        if holder is not None and holder.purpose == UP:
            return HomeInUseError(
                f"a platform already runs on {self.path} (process {holder.pid}); `tiation down` stops it, "
                "`--home` and `--port` start another one beside it"
            )
        if holder is None or not holder.pid:
            return HomeInUseError(
                f"{self.path} is held by a process that is not known here, in a container for instance; stop it there"
            )
        return HomeInUseError(f"no platform runs on {self.path}, but {holder} holds it; wait for its end")

    def check_whole(self) -> None:
        """Refuse a home that a restore has not filled wholly.

        Raises:
            HomeInUseError: it is under way.
            RestoreUnfinishedError: it was cut off.
        """
        if self.restoring.exists():
            holder = self.holder()
            if holder is not None and holder.purpose == RESTORE:
                raise self.in_use(holder)
            raise RestoreUnfinishedError(
                f"a restore into {self.path} was cut off, and not everything is there; run `tiation restore` again, "
                "which begins anew"
            )

    def gateway(self) -> dict[str, Any]:
        """What `gateway.json` says.

        Raises:
            NotRunningError: the platform does not run, or is not ready yet.
        """
        try:
            found = json.loads(self.gateway_file.read_text())
        except (FileNotFoundError, ValueError):
            found = None
        if not isinstance(found, dict) or not self.runs():
            raise NotRunningError(
                f"no platform is ready on {self.path}; start one with `tiation up --home {self.path}`"
            )
        return found
