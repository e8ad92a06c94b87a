"""What the core asks of a connector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Answer", "Connector", "Effect", "Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """Which system to speak to.

    Attributes:
        name: the connection's name.
        revision: the connection's; another revision may be another system.
        config: the connector's settings.
        credentials: in the clear.
    """

    name: str
    revision: int
    config: Mapping[str, object]
    credentials: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Effect:
    """What must not happen twice.

    Attributes:
        key: names the effect within the system.
        digest: of what was asked; the same key with another digest is a mistake of the caller's.
    """

    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a system answered; `replayed` says that it had done so before."""

    output: Any
    replayed: bool = False


class Connector(Protocol):
    """Speaks to one kind of system."""

    def check(self, config: Mapping[str, object], credentials: Mapping[str, str]) -> None:
        """Refuse settings that cannot work or go where they may not.

        Raises:
            IntegrationError: naming the setting.
        """

    def check_operation(self, spec: Mapping[str, object], field: str) -> None:
        """Refuse a specification that cannot work.

        Raises:
            OperationInvalidError: naming what is wrong.
        """

    async def test(self, target: Target) -> str:
        """Reach for the system; returns what was found.

        Raises:
            IntegrationError: it does not answer.
        """

    async def call(
        self,
        target: Target,
        spec: Mapping[str, object],
        value: Any,  # noqa: ANN401 -- any JSON
        *,
        effect: Effect | None,
        timeout_s: float,
    ) -> Answer:
        """Carry out one operation, once.

        Args:
            target: which system.
            spec: what to do.
            value: what to do it with.
            effect: what must not happen twice; None where it may.
            timeout_s: how long it may take.

        Raises:
            IntegrationError: it could not be done; the error says whether another attempt may help.
        """

    async def close(self) -> None:
        """Let go of every system."""
