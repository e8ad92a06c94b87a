"""One port belongs to one platform: whoever comes second, however late it is noticed, ends and names the port."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from cli.gateway import process
from mesh.config import Settings
from tests.fakes.installed import TIATION, Installed
from tests.fakes.ports import free_ports

BEATEN = """#!{python}
import os, socket, sys, time

ADDRESS = ("127.0.0.1", {port})


def is_free():
    with socket.socket() as probe:
        try:
            probe.bind(ADDRESS)
        except OSError:
            return False
    return True


def take():
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(ADDRESS)
    taken.listen()
    return taken


if not os.path.exists("{taker}"):
    taken = None if {late} else take()
    taker = os.fork()
    if not taker:
        while {late} and is_free():
            time.sleep(0.001)
        taken = taken or take()  # Envoy has bound the address and does not listen yet
        time.sleep(60)
        os._exit(0)
    with open("{taker}", "w") as file:
        file.write(str(taker))
os.execv("{envoy}", ["{envoy}", *sys.argv[1:]])
"""
"""An Envoy that another program beats to its port at its first start: before it has it, or just before it listens."""


@contextmanager
def up(home: Path, port: int, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """`tiation up`, whatever becomes of it."""
    command = [str(TIATION), "up", "--home", str(home), "--port", str(port)]
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **variables}
    )
    try:
        yield started
    finally:
        subprocess.run([str(TIATION), "down", "--home", str(home)], capture_output=True, timeout=60, check=False)
        started.kill()
        started.communicate()


def ready(started: subprocess.Popen[str]) -> bool:
    """Whether it says that it is ready before it ends."""
    assert started.stdout is not None
    return any(line.startswith("Ready at ") for line in started.stdout)


def check_taken(ended: subprocess.Popen[str], port: int) -> None:
    """It says which port it is that it cannot have."""
    assert ended.wait(30) == 1
    assert ended.stderr is not None
    assert f"port {port} on 127.0.0.1 is taken by another program" in ended.stderr.read()


def test_of_two_platforms_that_start_at_once_on_one_port_one_is_ready_and_the_other_says_why_not(tmp_path):
    (port,) = free_ports(1)
    with up(tmp_path / "one", port) as one, up(tmp_path / "two", port) as two:
        winner = {one: ready(one), two: ready(two)}
        assert sorted(winner.values()) == [False, True]
        check_taken(next(each for each, won in winner.items() if not won), port)


@pytest.mark.parametrize("late", [False, True], ids=["before Envoy has it", "before Envoy listens"])
def test_a_program_that_takes_the_port_while_the_platform_starts_is_noticed(tmp_path, late):
    """Envoy ends where it cannot have the address, and goes on without it where it only cannot listen any more."""
    (port,) = free_ports(1)
    envoy, taker = tmp_path / "envoy", tmp_path / "taker"
    real = process.find_envoy(Settings())
    envoy.write_text(BEATEN.format(python=sys.executable, envoy=real, taker=taker, port=port, late=late))
    envoy.chmod(0o755)
    try:
        with up(tmp_path / "home", port, TIATION_GATEWAY__ENVOY=str(envoy)) as started:
            assert not ready(started)
            check_taken(started, port)
    finally:
        os.kill(int(taker.read_text()), signal.SIGKILL)


def test_a_second_envoy_on_a_port_that_is_taken_ends(home_of_all: Installed, tmp_path):
    configuration = json.loads((home_of_all.home / "gateway" / "envoy.json").read_text())
    configuration["admin"]["address"]["pipe"]["path"] = str(tmp_path / "admin.sock")
    (tmp_path / "envoy.json").write_text(json.dumps(configuration))
    arguments = process.arguments(process.find_envoy(Settings()), tmp_path / "envoy.json")
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert "Address already in use" in ended.stderr


def test_envoys_workers_share_the_port_evenly(home_of_all: Installed):
    transport = httpx.HTTPTransport(uds=str(home_of_all.home / "gateway" / "admin.sock"))
    host, _, port = home_of_all.address.rpartition(":")
    with ExitStack() as opened, httpx.Client(transport=transport, base_url="http://admin") as admin:
        for _ in range(60):
            opened.enter_context(socket.create_connection((host, int(port))))
            time.sleep(0.01)  # both wait by now: left alone, the one that was last at work would often be the next
        stats = admin.get("/stats", params={"filter": r"^listener\..*\.worker_\d+\.downstream_cx_active$"}).text
    active = [int(count) for count in re.findall(r"worker_\d+\.downstream_cx_active: (\d+)", stats)]
    assert len(active) == 2
    assert max(active) - min(active) <= 2, stats
