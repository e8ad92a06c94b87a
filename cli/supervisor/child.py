"""One process that is kept running: started anew with growing pauses whenever it ends, stopped when asked."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from cli.supervisor.ends import how_ended

__all__ = ["Child"]

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
_STEADY_S = 10.0
"""A process that lived this long is started again without delay."""
_TAIL_BYTES = 64 * 1024
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
        say: told when it ended by itself, or cannot be started.
        ended: told how it ended, where it did by itself.
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
        say: Callable[[str], None] = lambda _: None,
        ended: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._log = log
        self._prepare = prepare
        self._changed = changed
        self._say = say
        self._ended = ended
        self._trouble = ""
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False
        self.failures = 0
        self._log_start = 0

    @property
    def pid(self) -> int:
        """Its process id; 0 while it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else 0

    @property
    def started(self) -> bool:
        """Whether it was ever to be kept running."""
        return self._keeper is not None

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

    def kill(self) -> None:
        """End it at once; `stop` still has to be awaited."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()

    def last_words(self, lines: int = 5) -> str:
        """Why it cannot be started, or the end of what its last process logged, as people read it."""
        if self._trouble:
            return self._trouble
        try:
            with self._log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_start if self._log_start <= size else 0, size - _TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(_readable(line) for line in text.splitlines()[-lines:])

    async def _keep(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping:
            began = time.monotonic()
            ended = await self._live()
            if self._stopping:
                return
            self.failures += 1
            if time.monotonic() - began > _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            self._say(f"{self.name} {ended}; starting it again")
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311 -- jitter is no secret
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _live(self) -> str:
        """One life of the process; returns how it ended."""
        try:
            self._trouble = ""
            self._prepare()
            self._process = process = await self._spawn()  # cancelled, asyncio kills what it has started
        except Exception as error:  # noqa: BLE001 -- a full disk, say: this keeper must outlive whatever it is
            self._trouble = f"{type(error).__name__}: {error}"
            return f"cannot be started ({self._trouble})"
        self._note_change()
        await process.wait()
        self._note_change()
        how = how_ended(process.returncode or 0)
        if not self._stopping:
            self._note("its end", partial(self._ended, how))
        return how

    def _note_change(self) -> None:
        self._note("its process id", self._changed)

    def _note(self, what: str, note: Callable[[], None]) -> None:
        """Tell whoever keeps note of processes; that they cannot must not end this one, or start another."""
        try:
            note()
        except OSError as error:
            self._say(f"{self.name}: {what} is not noted: {error}")

    async def _spawn(self) -> asyncio.subprocess.Process:
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._log_start = os.fstat(descriptor).st_size
            return await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env=dict(self._environment),
                preexec_fn=partial(_die_with_parent, os.getpid()),
            )
        finally:
            os.close(descriptor)


def _die_with_parent(parent: int) -> None:
    """Have the kernel end this process with its parent, and leave Ctrl-C to the parent."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
    os.setpgid(0, 0)


def _readable(line: str) -> str:
    """A log line's message with its error, if it is one of ours; else the line as it is."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict) or "message" not in entry:
        return line
    return ": ".join(str(entry[key]) for key in ("message", "error") if entry.get(key))
