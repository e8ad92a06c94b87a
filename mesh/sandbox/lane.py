"""The workers of one kind: a few that serve and a warm spare, each replaced as soon as it is gone.

What a request means is `mesh.sandbox.pool`; how a process is started and killed is `mesh.sandbox.worker`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from mesh.sandbox.errors import SandboxBusyError, SandboxUnavailableError
from mesh.sandbox.turns import Turns
from mesh.sandbox.worker import Kind, Limits, Worker, WorkerLostError
from mesh.sandboxed.frames import Status

__all__ = ["Lane"]

_RETRY_START_S = (0.1, 0.5, 2.0, 5.0)


class Lane:
    """Serves calls on its workers, each call on a worker of its own.

    No process is started before the first call or `warm`.

    Args:
        kind: which engine the workers load.
        size: how many calls run at once; one more worker is kept ready to replace one that was killed.
        limits: what a call may use.
        max_waiting: how many calls may wait for their turn.
        max_wait_s: how long a call may wait for its turn.
    """

    def __init__(self, kind: Kind, size: int, limits: Limits, *, max_waiting: int, max_wait_s: float) -> None:
        self._kind = kind
        self._size = size
        self._limits = limits
        self._max_wait_s = max_wait_s
        self._turns = Turns(size, max_waiting=max_waiting, max_wait_s=max_wait_s)
        self._idle: asyncio.LifoQueue[Worker] = asyncio.LifoQueue()  # the last one used has the warmest cache
        self._workers: set[Worker] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: SandboxUnavailableError | None = None
        self._started = False
        self._closed = False

    @property
    def pids(self) -> frozenset[int]:
        """The process ids of the workers there are now."""
        return frozenset(worker.pid for worker in self._workers)

    async def warm(self) -> None:
        """Start the workers and wait for one of them.

        Raises:
            SandboxUnavailableError: none could be started.
        """
        worker = await self._ready()
        self._idle.put_nowait(worker)

    async def call(self, owner: str, frame: bytes) -> tuple[Status, bytes]:
        """Run one request on a worker that nobody else uses meanwhile.

        Raises:
            SandboxBusyError: no turn was to be had.
            SandboxUnavailableError: no worker was to be had.
            SandboxError: as `Worker.call`.
        """
        await self._turns.take(owner)
        try:
            for _ in range(self._size + 2):  # all that stood idle may have been killed together
                with suppress(WorkerLostError):
                    return await self._on_worker(frame)
            raise SandboxUnavailableError(
                "the sandbox process was killed from outside, again and again; is the machine out of memory?"
            )
        finally:
            self._turns.give_back(owner)

    async def close(self) -> None:
        """Kill every worker; calls under way get SandboxUnavailableError."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        for worker in self._workers:
            worker.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in list(self._workers):
            await self._bury(worker)

    async def _on_worker(self, frame: bytes) -> tuple[Status, bytes]:
        worker = await self._ready()
        try:
            return await worker.call(frame)
        finally:
            if worker.usable:
                self._idle.put_nowait(worker)
            else:
                self._replace(worker)

    async def _ready(self) -> Worker:
        """A usable worker from among the idle ones."""
        if not self._started and not self._closed:
            self._started = True
            for _ in range(self._size + 1):
                self._spawn(self._fill())
        while True:
            if self._closed:
                raise SandboxUnavailableError("the sandbox is closed")
            try:
                async with asyncio.timeout(self._max_wait_s):
                    worker = await self._idle.get()
            except TimeoutError:
                raise self._failure or SandboxBusyError(
                    "no process of the sandbox is ready; try again later", retry_after_s=1.0
                ) from None
            if worker.usable:
                return worker
            self._replace(worker)

    def _replace(self, worker: Worker) -> None:
        """Start another worker at once, and clean up behind this one."""
        if not self._closed:
            self._spawn(self._fill())
            self._spawn(self._bury(worker))

    def _spawn(self, work: asyncio.coroutines.Coroutine[None, None, None]) -> None:  # type: ignore[name-defined]
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fill(self) -> None:
        """Start one worker, however often it takes."""
        attempt = 0
        while True:
            try:
                worker = await Worker.start(self._kind, self._limits)
            except SandboxUnavailableError as error:
                self._failure = error
                await asyncio.sleep(_RETRY_START_S[min(attempt, len(_RETRY_START_S) - 1)])
                attempt += 1
                continue
            self._failure = None
            self._workers.add(worker)
            self._idle.put_nowait(worker)
            return

    async def _bury(self, worker: Worker) -> None:
        await worker.end()
        self._workers.discard(worker)
