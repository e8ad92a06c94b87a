"""The services that a flow calls, as a test says they answer; each effect happens once a key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

Answer = Callable[[Any], Any]


@dataclass
class FakeCalls:
    """Answers calls and remembers them.

    Attributes:
        answers: what each kind answers, from the arguments; raising is an answer too.
        asked: every call: kind, arguments, effect key.
        effects: what each effect key did, once.
        holding: while set, calls begin and wait until it is cleared.
    """

    answers: Mapping[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, Any, str]] = field(default_factory=list)
    effects: dict[str, bytes] = field(default_factory=dict)
    holding: asyncio.Event | None = None

    async def call(self, kind: str, arguments: Any, effect_key: str) -> Any:
        """As `orchestrator.ports.Calls.call`."""
        self.asked.append((kind, arguments, effect_key))
        if self.holding is not None:
            await self.holding.wait()
        if kind == "connect":
            what = msgspec.json.encode(arguments, order="deterministic")
            assert self.effects.setdefault(effect_key, what) == what, "a key was used for another effect"
        return self.answers.get(kind, lambda given: {"echo": given})(arguments)

    def effect_keys(self) -> list[str]:
        """The effect keys of the calls, in order."""
        return [key for _, _, key in self.asked]
