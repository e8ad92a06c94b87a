"""Effects on systems that do not keep effect keys themselves: noted before they are asked for, kept when they happened.

So an answer that was given is given again, and what was begun and never answered is not done twice without a word.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from integration.errors import EffectKeyReusedError, OutcomeUnknownError
from integration.ports import Answer, Effect, EffectRows
from mesh.db import Database

__all__ = ["EffectLog"]


class EffectLog:
    """Remembers effects.

    Args:
        database: the service's own.
        rows: its statements.
        now: seconds since 1970.
    """

    def __init__(self, database: Database, rows: EffectRows, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._rows = rows
        self._now = now

    async def begin(self, effect: Effect, *, repeatable: bool) -> Answer | None:
        """Note that an effect is about to be asked for; what it came to where it happened before.

        Args:
            effect: which.
            repeatable: true where the system itself sees to it that it happens once.

        Raises:
            EffectKeyReusedError: the key was used for something else.
            OutcomeUnknownError: it was asked for before and nobody knows what came of that.
        """
        begun = await self._database.write(
            lambda transaction: self._rows.begin_effect(transaction, effect.key, effect.digest, self._now())
        )
        if begun:
            return None
        kept = await self._database.read(lambda transaction: self._rows.effect(transaction, effect.key))
        if kept is None:  # it was undone just now
            return await self.begin(effect, repeatable=repeatable)
        if kept.digest != effect.digest:
            raise EffectKeyReusedError("the effect key was used for another operation or input", key=effect.key)
        if kept.output is not None:
            return Answer(msgspec.json.decode(kept.output), replayed=True)
        if repeatable:
            return None
        raise OutcomeUnknownError(
            "this was asked of the system before, and its answer never came: it may have happened. "
            "Look there, then go on under another effect key",
            key=effect.key,
        )

    async def done(self, effect: Effect, output: Any) -> None:  # noqa: ANN401 -- any JSON
        """Keep what came of an effect."""
        encoded = msgspec.json.encode(output).decode()
        await self._database.write(
            lambda transaction: self._rows.end_effect(transaction, effect.key, encoded, self._now())
        )

    async def undo(self, effect: Effect) -> None:
        """Forget an effect that certainly did not happen."""
        await self._database.write(lambda transaction: self._rows.undo_effect(transaction, effect.key))
