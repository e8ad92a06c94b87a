"""Where answers are kept: what every store of them is to those who ask it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["AnswerStore"]


class AnswerStore(Protocol):
    """Keeps bytes by key, for as long as it sees fit. It never fails and never takes long."""

    async def get(self, key: bytes) -> bytes | None:
        """What is kept under a key; None where nothing is, or where it cannot be had at once."""

    def put(self, key: bytes, value: bytes, owner: str = "") -> None:
        """Keep something, now or soon; what is too large or too much is not kept.

        Args:
            key: under which it is asked for.
            value: what is kept.
            owner: whose it is; one owner's answers do not push out all of the others'.
        """

    async def close(self) -> None:
        """End what it does beside."""
