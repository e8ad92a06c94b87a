"""Effects on systems that do not keep effect keys themselves: noted before they are asked for, kept when they happened.

So an answer that was given is given again, and what was begun and never answered is not done twice without a word. What
was begun is ended even if its caller goes away meanwhile: whoever asks next gets the answer then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from integration.errors import EffectKeyReusedError, IntegrationError, OutcomeUnknownError
from integration.ports import Answer, Effect, EffectRows
from mesh.call import current_call
from mesh.db import Database, Work

__all__ = ["EffectLog"]

_ENDING_S = 5.0


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """An effect that is being asked for in this process."""

    digest: str
    task: asyncio.Task[Answer]


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
        self._under_way: dict[str, _UnderWay] = {}

    async def once(self, effect: Effect, ask: Callable[[], Awaitable[Answer]], *, repeatable: bool) -> Answer:
        """Ask for an effect unless it has happened; its answer, then or now.

        Args:
            effect: which.
            ask: asks the system.
            repeatable: true where the system itself sees to it that it happens once.

        Raises:
            EffectKeyReusedError: the key was used for something else.
            OutcomeUnknownError: it was asked for before and nobody knows what came of that.
            IntegrationError: as `ask` raises.
        """
        joined = self._under_way.get(effect.key)
        if joined is not None:
            _check_same(effect, joined.digest)
            return replace(await asyncio.shield(joined.task), replayed=True)
        task = asyncio.get_running_loop().create_task(self._carried_out(effect, ask, repeatable=repeatable))
        self._under_way[effect.key] = _UnderWay(effect.digest, task)
        task.add_done_callback(lambda ended: self._ended(effect.key, ended))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Let what is under way come to its end, for a while."""
        tasks = [each.task for each in self._under_way.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=_ENDING_S)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):  # whoever asked has been told, or is gone
                await task

    async def _carried_out(self, effect: Effect, ask: Callable[[], Awaitable[Answer]], *, repeatable: bool) -> Answer:
        before = await self._begin(effect, repeatable=repeatable)
        if before is not None:
            return before
        try:
            answer = await ask()
        except IntegrationError as error:
            if error.outcome_known:
                await self._aside(lambda transaction: self._rows.undo_effect(transaction, effect.key))
            raise
        output = msgspec.json.encode(answer.output).decode()
        await self._database.write(
            lambda transaction: self._rows.end_effect(transaction, effect.key, output, self._now())
        )
        return answer

    async def _begin(self, effect: Effect, *, repeatable: bool) -> Answer | None:
        """Note that an effect is about to be asked for; what it came to where it happened before."""
        begun = await self._aside(
            lambda transaction: self._rows.begin_effect(transaction, effect.key, effect.digest, self._now())
        )
        if begun:
            return None
        kept = await self._database.read(lambda transaction: self._rows.effect(transaction, effect.key))
        if kept is None:  # it was undone just now
            return await self._begin(effect, repeatable=repeatable)
        _check_same(effect, kept.digest)
        if kept.output is not None:
            return Answer(msgspec.json.decode(kept.output), replayed=True)
        if repeatable:
            return None
        raise OutcomeUnknownError(
            "this was asked of the system before, and its answer never came: it may have happened. "
            "Look there, then go on under another effect key",
            key=effect.key,
        )

    async def _aside(self, work: Work[Any]) -> Any:  # noqa: ANN401 -- whatever the work returns
        """Write something that is not what the call is about: the call's record waits for its end."""
        call = current_call.set(None)
        try:
            return await self._database.write(work)
        finally:
            current_call.reset(call)

    def _ended(self, key: str, task: asyncio.Task[Answer]) -> None:
        self._under_way.pop(key, None)
        if not task.cancelled():
            task.exception()  # it is the waiters' to raise, if there are any left


def _check_same(effect: Effect, digest: str) -> None:
    if effect.digest != digest:
        raise EffectKeyReusedError("the effect key was used for another operation or input", key=effect.key)
