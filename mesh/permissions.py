"""Permissions, `service.resource.verb`, and patterns that stand for many: `*` for a part, or alone for all."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Permissions", "covers", "overlaps"]


class Permissions:
    """The permissions of a role, wildcards understood; each answer is computed once.

    Attributes:
        patterns: as the role says them.
    """

    __slots__ = ("_known", "_parts", "patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        self._parts = [pattern.split(".") for pattern in self.patterns]
        self._known: dict[str, bool] = {}

    def __contains__(self, permission: str) -> bool:
        """Whether the role allows it; for a pattern whether it allows all that the pattern stands for."""
        known = self._known.get(permission)
        if known is None:
            parts = permission.split(".")
            known = self._known[permission] = any(_covers(pattern, parts) for pattern in self._parts)
        return known


def covers(pattern: str, other: str) -> bool:
    """Whether a pattern stands for all that another one stands for."""
    return _covers(pattern.split("."), other.split("."))


def overlaps(one: str, other: str) -> bool:
    """Whether there can be a permission that both stand for."""
    if "*" in (one, other):
        return True
    pairs = list(zip(one.split("."), other.split("."), strict=False))
    return len(one.split(".")) == len(other.split(".")) and all(a == b or "*" in (a, b) for a, b in pairs)


def _covers(pattern: list[str], parts: list[str]) -> bool:
    if pattern == ["*"]:
        return True
    return len(pattern) == len(parts) and all(p in ("*", part) for p, part in zip(pattern, parts, strict=True))
