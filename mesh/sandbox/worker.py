"""One child process of the sandbox, seen from the service: start it, ask it, kill it, say why it died.

Which worker serves which call, and when another one is started, is `mesh.sandbox.lane`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Final, cast

import mesh
from mesh.sandbox.errors import (
    SandboxCrashedError,
    SandboxDeadlineError,
    SandboxError,
    SandboxMemoryError,
    SandboxUnavailableError,
)
from mesh.sandboxed.frames import EXIT_MEMORY, RETIRING, FrameBuffer, FrameError, Status

__all__ = ["Kind", "Limits", "Worker", "WorkerLostError"]

_START_S: Final = 20.0
_BOOTSTRAP: Final = (
    "import sys; sys.path += sys.argv[5:]; "
    "from mesh.sandboxed.main import main; main(sys.argv[1], *map(int, sys.argv[2:5]))"
)
_OUT_OF_MEMORY: Final = (b"cannot allocate memory", b"memory allocation of", b"MemoryError")
_FRAME_ROOM: Final = 4096


class Kind(StrEnum):
    """Which engine a worker loads."""

    JQ = "jq"
    DECISION = "decision"
    IMAGE = "image"
    TEMPLATE = "template"


_ENGINES: Final = {Kind.JQ: "jq", Kind.DECISION: "zen", Kind.IMAGE: "PIL", Kind.TEMPLATE: "jinja2"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may use.

    Attributes:
        deadline_s: wall-clock seconds from the moment when a worker gets the call.
        memory_bytes: address space on top of the idle worker's.
        max_input_bytes: size of the request, program and values together.
        max_output_bytes: size of the result, as JSON or as pixels.
    """

    deadline_s: float
    memory_bytes: int
    max_input_bytes: int
    max_output_bytes: int


class WorkerLostError(Exception):
    """The worker was killed from outside; the call may be made again, on another one."""


class _Link(asyncio.Protocol):
    """The service's end of the socket pair; at most one call waits on it."""

    def __init__(self, max_reply_bytes: int) -> None:
        self._received = FrameBuffer(max_reply_bytes)
        self._reply: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by their class

    def ask(self, frame: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Send a request; the future gets the reply's kind and body, or ConnectionResetError."""
        self._reply = asyncio.get_running_loop().create_future()
        if self.lost or self._transport is None:
            self._reply.set_exception(ConnectionResetError())
        elif frame:
            self._transport.write(frame)
        return self._reply

    def data_received(self, data: bytes) -> None:
        try:
            self._received.feed(data)
            frame = self._received.take()
        except FrameError:
            self.close()
            return
        if frame is None:
            return
        if self._reply is None or self._reply.done() or len(frame[1]) != 1:
            self.close()  # an answer that nobody asked for: this worker cannot be trusted any more
            return
        self._reply.set_result((frame[0], frame[1][0]))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- the protocol's signature
        self.lost = True
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(ConnectionResetError())

    def close(self) -> None:
        self.lost = True
        if self._transport is not None:
            self._transport.abort()


class Worker:
    """A confined child process that answers one call at a time. Made by `Worker.start`."""

    def __init__(self, process: subprocess.Popen[bytes], link: _Link, limits: Limits) -> None:
        self._process = process
        self._link = link
        self._limits = limits
        self._ours = False

    @classmethod
    async def start(cls, kind: Kind, limits: Limits) -> Worker:
        """Start a process and wait until it has given up its rights.

        Raises:
            SandboxUnavailableError: it could not be started; the message has its last words.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        link = _Link(limits.max_output_bytes + _FRAME_ROOM)
        try:
            process = _spawn(kind, limits, theirs)
        except OSError as error:
            ours.close()
            raise SandboxUnavailableError(f"a sandbox process cannot be started: {error}") from error
        finally:
            theirs.close()
        worker = cls(process, link, limits)
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
            async with asyncio.timeout(_START_S):
                status, _ = await link.ask(b"")
        except (ConnectionResetError, TimeoutError) as error:
            words = await worker.end()
            raise SandboxUnavailableError(
                f"a sandbox process did not start: {_last_line(words) or type(error).__name__}"
            ) from error
        except BaseException:  # whatever ended the wait, no process stays behind
            await worker.end()
            raise
        if status != Status.READY:
            await worker.end()
            raise SandboxUnavailableError(f"a sandbox process started with status {status}")
        return worker

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def usable(self) -> bool:
        """Whether it can be given another call."""
        return not self._link.lost

    async def call(self, frame: bytes) -> tuple[Status, bytes]:
        """Send a request frame and wait for the answer. Unless it returns, the worker is not usable afterwards.

        Raises:
            SandboxDeadlineError, SandboxMemoryError, SandboxCrashedError: the program broke its limits.
            WorkerLostError: somebody else killed the process.
        """
        reply = self._link.ask(frame)
        expiry = asyncio.get_running_loop().call_later(self._limits.deadline_s, _expire, reply)
        try:
            kind, body = await reply
            status = Status(kind & ~RETIRING)
        except TimeoutError:
            self.kill()
            raise SandboxDeadlineError(
                f"the program ran for more than {self._limits.deadline_s:g} s and was stopped",
                deadline_s=self._limits.deadline_s,
            ) from None
        except (ConnectionResetError, ValueError):
            raise await self._cause() from None
        except asyncio.CancelledError:
            self.kill()
            raise
        finally:
            expiry.cancel()
        if kind & RETIRING:
            self._link.close()
        return status, body

    def kill(self) -> None:
        """End the process at once; `end` must still be awaited."""
        self._ours = True
        self._link.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> bytes:
        """Make sure that the process is gone and leave nothing of it behind; its last words."""
        self._link.close()
        if self._process.poll() is None:
            self._process.kill()
            # Outside of the loop: the kernel may need a while to give back a large process's memory.
            await asyncio.shield(asyncio.to_thread(self._process.wait))
        return _read_and_close(self._process.stderr)

    async def _cause(self) -> SandboxError | WorkerLostError:
        """Why the process ended in the middle of a call."""
        if self._ours:
            return SandboxUnavailableError("the sandbox was closed")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.to_thread(self._process.wait, 1.0)
        words = await self.end()
        code = self._process.returncode
        if code == EXIT_MEMORY or any(sign in words for sign in _OUT_OF_MEMORY):
            megabytes = self._limits.memory_bytes >> 20
            return SandboxMemoryError(f"the program wanted more than {megabytes} MiB of memory", limit_mb=megabytes)
        if code == -signal.SIGKILL:
            return WorkerLostError()
        return SandboxCrashedError("the program ended its process, probably by recursing too deeply", status=code)


def _expire(reply: asyncio.Future[tuple[int, bytes]]) -> None:
    if not reply.done():
        reply.set_exception(TimeoutError())


def _spawn(kind: Kind, limits: Limits, stdin: socket.socket) -> subprocess.Popen[bytes]:
    """Start the interpreter with no environment, no site and no user packages; it confines itself once loaded."""
    request_bytes = limits.max_input_bytes + _FRAME_ROOM
    sizes = (limits.memory_bytes, request_bytes, limits.max_output_bytes)
    command = [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, kind.value, *map(str, sizes), *_import_path(kind)]
    return subprocess.Popen(
        command, stdin=stdin.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={}, cwd="/"
    )


def _import_path(kind: Kind) -> list[str]:
    """Where the worker finds our code and its engine; it has no other path besides the standard library."""
    ours = Path(mesh.__path__[0]).resolve().parent
    spec = importlib.util.find_spec(_ENGINES[kind])
    if spec is None or spec.origin is None:
        raise SandboxUnavailableError(f"the {kind.value} engine is not installed")
    origin = Path(spec.origin).resolve()
    return [str(ours), str(origin.parent.parent if spec.submodule_search_locations else origin.parent)]


def _read_and_close(stream: IO[bytes] | None) -> bytes:
    """What is left in a dead process's pipe, at most 64 KiB."""
    if stream is None or stream.closed:
        return b""
    with stream:
        os.set_blocking(stream.fileno(), False)
        try:
            return os.read(stream.fileno(), 65536)
        except BlockingIOError:
            return b""


def _last_line(words: bytes) -> str:
    lines = words.decode(errors="replace").strip().splitlines()
    return lines[-1][:500] if lines else ""
