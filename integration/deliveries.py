"""Deliveries: requests that a webhook has accepted, each of which becomes one run.

A delivery is a row that commits together with the answer to its sender. Its run's name follows from what makes the
request the one it is, so that the row may be worked on again after a crash, by any process, and still one run starts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import structlog

from integration.errors import WebhookBusyError
from mesh.db import Database, Transaction
from mesh.errors import Code, TiationError
from mesh.identity import Requester

__all__ = ["Deliveries", "Delivery", "DeliveryRows", "Runs"]

_AT_ONCE = 16
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 60.0
_LOOK_AGAIN_S = 5.0
_FINAL = frozenset({Code.PERMISSION_DENIED, Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.ALREADY_EXISTS})
"""What no further attempt changes. A paused agent or an orchestrator that is away are waited for."""
_REVOKED = "TOKEN_REVOKED"
"""Whoever set the webhook up is no more, or must set it up again."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A request that was accepted.

    Attributes:
        key: names it among all of them.
        webhook: the webhook's name.
        run: the full name of the run that it becomes.
        requester: on whose behalf.
        input: the run's.
        received: when it was accepted, seconds since 1970.
        attempts: how often its run was asked for.
    """

    key: str
    webhook: str
    run: str
    requester: Requester
    input: Any
    received: float
    attempts: int = 0


class Runs(Protocol):
    """Starts runs."""

    async def start(self, delivery: Delivery) -> None:
        """Start a delivery's run; again for the same delivery does nothing.

        Raises:
            TiationError: what the orchestrator says instead.
        """


class DeliveryRows(Protocol):
    """The rows of deliveries; `integration.store` says what each method does."""

    def run_of(self, transaction: Transaction, key: str) -> str | None:
        """The run of a delivery."""

    def waiting(self, transaction: Transaction, webhook: str, at_most: int) -> int:
        """How many wait."""

    def accept(self, transaction: Transaction, delivery: Delivery) -> bool:
        """Keep a new one."""

    def due(self, transaction: Transaction, now: float, limit: int) -> Sequence[Delivery]:
        """Those to be started."""

    def end(self, transaction: Transaction, key: str, state: str, problem: str) -> None:
        """Note that nothing is left to do."""

    def put_off(self, transaction: Transaction, key: str, attempts: int, due: float, problem: str) -> None:
        """Note when to try again."""


class Deliveries:
    """Keeps deliveries and starts their runs.

    Args:
        database: the service's own.
        rows: its statements.
        runs: starts runs.
        now: seconds since 1970.
        max_waiting: how many of one webhook may wait to be started.
    """

    def __init__(
        self,
        database: Database,
        rows: DeliveryRows,
        runs: Runs,
        now: Callable[[], float] = time.time,
        max_waiting: int = 10_000,
    ) -> None:
        self._database = database
        self._rows = rows
        self._runs = runs
        self._now = now
        self._max_waiting = max_waiting
        self._woken = asyncio.Event()
        self._log = structlog.get_logger("integration.deliveries")

    async def known(self, key: str) -> str | None:
        """The run of a request that was accepted before; None for a new one."""
        return await self._database.read(lambda transaction: self._rows.run_of(transaction, key))

    async def accept(self, delivery: Delivery) -> str:
        """Keep a delivery so that its run starts, whatever happens from now on; returns the run's name.

        Raises:
            WebhookBusyError: too many of this webhook wait.
        """

        def work(transaction: Transaction) -> str:
            if self._rows.waiting(transaction, delivery.webhook, self._max_waiting) >= self._max_waiting:
                raise WebhookBusyError("too much that was sent here waits; send it again later", retry_after_s=30.0)
            if self._rows.accept(transaction, delivery):
                return delivery.run
            return self._rows.run_of(transaction, delivery.key) or delivery.run

        run = await self._database.write(work)
        self._woken.set()
        return run

    async def run(self) -> None:
        """Start runs for ever, with those first that an earlier life has left; the next one goes on with the rest."""
        while True:
            self._woken.clear()
            try:
                found = await self._database.read(partial(self._rows.due, now=self._now(), limit=_AT_ONCE))
                await asyncio.gather(*(self._begin(delivery) for delivery in found))
            except Exception as error:  # noqa: BLE001 -- whatever it is, the rows wait and are looked at again
                self._log.warning("deliveries not looked at", error=str(error))
                found = ()
            if len(found) < _AT_ONCE:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_S if not found else _FIRST_PAUSE_S):
                        await self._woken.wait()

    async def _begin(self, delivery: Delivery) -> None:
        """Start one run, or note when to try again, or that it will never be."""
        try:
            await self._runs.start(delivery)
        except TiationError as error:
            if error.code in _FINAL or error.reason == _REVOKED:
                self._log.warning(
                    "delivery refused", webhook=delivery.webhook, run=delivery.run, reason=error.reason,
                    error=error.message,
                )  # fmt: skip
                await self._end(delivery, "REFUSED", f"{error.reason}: {error.message}"[:1000])
                return
            await self._put_off(delivery, f"{error.reason}: {error.message}"[:1000])
        else:
            await self._end(delivery, "STARTED", "")

    async def _end(self, delivery: Delivery, state: str, problem: str) -> None:
        await self._database.write(
            partial(self._rows.end, key=delivery.key, state=state, problem=problem), durable=False
        )

    async def _put_off(self, delivery: Delivery, problem: str) -> None:
        attempts = delivery.attempts + 1
        pause_s = min(_FIRST_PAUSE_S * 2 ** min(attempts, 20), _LONGEST_PAUSE_S)
        due = self._now() + pause_s
        self._log.info("delivery waits", run=delivery.run, retry_in_s=round(pause_s, 1), error=problem)
        await self._database.write(
            partial(self._rows.put_off, key=delivery.key, attempts=attempts, due=due, problem=problem), durable=False
        )
