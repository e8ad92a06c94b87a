"""How often something was and how long all of it took, as it grows and as it is told. What is counted is not known."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Duration", "Sum"]


@dataclass(frozen=True, slots=True)
class Duration:
    """How often something was, and how long all of it took, nanoseconds."""

    count: int = 0
    ns: int = 0


@dataclass(slots=True)
class Sum:
    """A duration that grows."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Once more."""
        self.count += 1
        self.seconds += seconds

    def now(self) -> Duration:
        """As it stands."""
        return Duration(self.count, round(self.seconds * 1e9))
