"""One process that is kept running: started anew with growing pauses whenever it ends, stopped when asked."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["Child"]

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
_STEADY_S = 10.0
"""A process that lived this long is started again without delay."""
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Child:
    """A supervised process.

    Args:
        name: what people call it.
        command: its command line.
        environment: all of its environment.
        log: where its output goes.
        prepare: called before every start, to lay certificates.
        changed: called after every start and end.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        prepare: Callable[[], object],
        changed: Callable[[], None],
    ) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._log = log
        self._prepare = prepare
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False
        self.failures = 0

    @property
    def pid(self) -> int:
        """Its process id; 0 while it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else 0

    def start(self) -> None:
        """Begin to keep it running."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self, grace_s: float, before: Callable[[], Awaitable[None]] | None = None) -> None:
        """End it: SIGTERM, and SIGKILL where that is not enough in time."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            if before is not None:
                await before()
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace_s):
                    await process.wait()
            except TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper

    def last_words(self, lines: int = 5) -> str:
        """The end of its log."""
        try:
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    async def _keep(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping:
            began = time.monotonic()
            self._prepare()
            await self._spawn()
            self._changed()
            process = self._process
            assert process is not None  # noqa: S101 -- just started
            await process.wait()
            self._changed()
            self.failures += 1
            if time.monotonic() - began > _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311 -- jitter is no secret
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _spawn(self) -> None:
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env=dict(self._environment),
                preexec_fn=_die_with_parent,
            )
        finally:
            os.close(descriptor)


def _die_with_parent() -> None:
    """Have the kernel end this process with its parent, and leave Ctrl-C to the parent."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setpgid(0, 0)
