"""The supervisor: ports, chores, what it writes for clients, what it tells its user."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys

import pytest

from cli.home import Home
from cli.supervisor import ports
from cli.supervisor.certificates import Certificates
from cli.supervisor.chores import repeat
from cli.supervisor.ports import AddressUnusableError, PortTakenError, check_free, choose_ports
from cli.supervisor.start import ways_in
from cli.supervisor.supervisor import StartError, Supervisor
from mesh.config import SERVICES, GatewaySettings, SecuritySettings, Settings


@pytest.fixture
def taken():
    """A port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_that_is_taken_is_said_so_with_what_to_do(taken):
    with pytest.raises(PortTakenError, match=rf"port {taken} on 127\.0\.0\.1 is taken by another program.*--port"):
        check_free("127.0.0.1", taken)


def test_up_says_that_the_port_is_taken_and_lets_the_home_go(tiation, home, taken):
    for more in ((), ("--detach",)):
        said = tiation("up", "--home", str(home.path), "--port", str(taken), *more)
        assert said.code == 1
        assert f"port {taken} on 127.0.0.1 is taken" in said.err
        assert not home.gateway_file.exists()
        assert home.holder() is None


def test_an_address_of_another_machine_is_said_so():
    with pytest.raises(AddressUnusableError, match=r"gateway\.host is 192\.0\.2\.1"):
        check_free("192.0.2.1", 18443)


def test_ports_for_services_are_free_different_and_not_the_systems_own_to_hand_out(monkeypatch):
    lowest = int(ports._RANGE.read_text().split()[0])
    chosen = choose_ports(50)
    assert len(set(chosen)) == 50
    if lowest > ports._LOWEST + 1000:
        assert all(ports._LOWEST <= port < lowest for port in chosen)
    for port in chosen:
        check_free("127.0.0.1", port)


def test_a_port_in_use_is_not_chosen(monkeypatch, taken):
    monkeypatch.setattr(ports.random, "sample", lambda *_: [taken, 15001])
    assert choose_ports(1) == [15001]
    with pytest.raises(PortTakenError, match="fewer than 2"):
        choose_ports(2)


class Clock:
    """A wall clock that jumps."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Chore:
    """Work that is counted and may fail."""

    def __init__(self) -> None:
        self.done, self.fails = 0, False
        self.said: list[str] = []

    async def __call__(self) -> None:
        if self.fails:
            raise OSError(28, "No space left on device")
        self.done += 1


@pytest.fixture
async def chore():
    """A chore that is due after 0.1 s of a clock of the test's, looked at every 10 ms of the real one."""
    clock, work = Clock(), Chore()
    task = asyncio.create_task(repeat("token", 0.1, work, work.said.append, clock))
    await asyncio.sleep(0)
    yield clock, work
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_chore_goes_by_the_wall_clock_also_when_the_machine_slept(chore):
    clock, work = chore
    await asyncio.sleep(0.08)
    assert work.done == 0
    clock.now_s += 0.09
    await asyncio.sleep(0.08)
    assert work.done == 0
    clock.now_s += 0.02
    await asyncio.sleep(0.08)
    assert work.done == 1
    clock.now_s += 80_000
    await asyncio.sleep(0.08)
    assert work.done == 2


async def test_a_clock_that_was_set_back_makes_a_chore_due(chore):
    clock, work = chore
    clock.now_s -= 500_000
    await asyncio.sleep(0.08)
    assert work.done == 1


async def test_a_chore_that_fails_is_tried_again_and_said_once(chore):
    clock, work = chore
    work.fails = True
    clock.now_s += 0.11
    await asyncio.sleep(0.08)
    work.fails = False
    await asyncio.sleep(0.08)
    assert work.done == 1
    assert work.said == [
        "token: cannot be looked after, trying again: [Errno 28] No space left on device",
        "token: looked after again",
    ]


def supervisor(home: Home, **gateway: object) -> Supervisor:
    """One that was not started."""
    settings = Settings(gateway=GatewaySettings(**gateway))
    made = Supervisor(home, settings, lambda _: None)
    made._certificates = Certificates(home, settings)
    return made


async def test_certificates_are_renewed_while_a_start_takes_longer_than_they_live(home):
    class Slow(Supervisor):
        """One whose services take until the front proxy's certificate has been replaced."""

        async def _start_children(self) -> None:
            front = home.path / "gateway" / "sds-front.json"
            first = front.read_text()
            async with asyncio.timeout(20):
                while front.read_text() == first:
                    await asyncio.sleep(0.05)
            self._stop.set()

    settings = Settings(gateway=GatewaySettings(port=choose_ports(1)[0]), security=SecuritySettings(svid_ttl_s=2))
    await Slow(home, settings, lambda _: None).run(lambda _: None)


def test_gateway_json_says_what_tools_rely_on_and_nothing_else(home):
    made = supervisor(home, port=18443)
    made._make_children([sys.executable])
    document = made._gateway()
    assert set(document) == {"url", "ca", "token_file", "services"}
    assert document["url"] == "https://127.0.0.1:18443"
    assert (document["ca"], document["token_file"]) == (str(home.path / "ca.pem"), str(home.path / "token"))
    assert set(document["services"]) == {*SERVICES, "envoy"}
    assert document["services"]["envoy"] == {"pid": 0}
    for name in SERVICES:
        service = document["services"][name]
        assert set(service) == {"address", "metrics", "pid"}
        assert re.fullmatch(r"127\.0\.0\.1:\d+", service["address"])
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", service["metrics"])


def test_every_service_is_told_where_all_are_and_stays_there(home, monkeypatch):
    monkeypatch.delenv("TIATION_ENGINE__SYSTEM_MODELS", raising=False)
    made = supervisor(home)
    made._make_children([sys.executable])
    told = made._children["engine"]._environment
    for name, service in made._gateway()["services"].items():
        if name != "envoy":
            assert told[f"TIATION_SERVICES__{name.upper()}__ADDRESS"] == service["address"]
            assert (
                service["metrics"].split(":")[2] == f"{told[f'TIATION_SERVICES__{name.upper()}__METRICS_PORT']}/metrics"
            )
    assert told["TIATION_ENGINE__SYSTEM_MODELS"].endswith("/.models")
    assert made._gateway() == made._gateway()


def test_models_that_the_operator_set_stay(home, monkeypatch):
    monkeypatch.setenv("TIATION_ENGINE__SYSTEM_MODELS", "/elsewhere")
    made = supervisor(home)
    made._make_children([sys.executable])
    assert made._children["engine"]._environment["TIATION_ENGINE__SYSTEM_MODELS"] == "/elsewhere"


async def test_too_little_room_is_said_before_anything_starts(home, monkeypatch):
    full = shutil.disk_usage(home.path)._replace(free=1024 * 1024)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(StartError, match="only 1 MiB are free under"):
        await supervisor(home, port=choose_ports(1)[0]).run(lambda _: None)


def test_a_setting_that_does_not_exist_is_refused_by_name(tiation, home, monkeypatch):
    monkeypatch.setenv("TIATION_ENGINE__MAX_BACH", "3")
    said = tiation("up", "--home", str(home.path))
    assert said.code == 1
    assert "unknown setting `engine.max_bach`; did you mean `engine.max_batch`?" in said.err


def test_a_missing_front_proxy_says_what_to_run(tiation, home, monkeypatch, tmp_path):
    from cli.gateway import process

    monkeypatch.setattr(process, "CLONE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    said = tiation("up", "--home", str(home.path), "--port", str(choose_ports(1)[0]))
    assert (said.code, said.out.splitlines()[:1]) == (1, [f"Starting the platform on {home.path}"])
    assert "Envoy is not installed; run `make setup`" in said.err
    assert home.holder() is None


def test_the_ways_in_can_be_pasted(home):
    text = ways_in(home, {"url": "https://127.0.0.1:18443"})
    python = text.split("<<'END'\n")[1].split("\nEND\n")[0]
    ast.parse(python)
    for program in ("curl --cacert", "grpcurl -cacert"):
        start = text.index(program)
        command = text[start:].split("\n\n")[0]
        assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0
        words = shlex.split(command)
        assert str(home.ca) in words
        assert any("127.0.0.1:18443" in word for word in words)
        assert any(f"token --home {home.path}" in word for word in words)
    assert os.access(shlex.split(text.split("$(")[1])[0], os.X_OK)


def test_the_ways_in_hold_a_home_of_any_name(tmp_path, monkeypatch):
    programs = tmp_path / "its bin"
    programs.mkdir()
    fake = programs / "tiation"
    fake.write_text('#!/bin/sh\nprintf "%s" "$3"\n')
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    home = Home(tmp_path / 'it\'s my $HOME; "here"')
    text = ways_in(home, {"url": "https://127.0.0.1:18443"})
    for program, way in (("curl", text.split("# REST\n")[1]), ("grpcurl", text.split("# gRPC")[1].split("\n", 1)[1])):
        command = way.split("\n\n")[0].split(" ", 1)[1]
        shown = subprocess.run(
            ["bash", "-c", f"show() {{ printf '%s\\n' \"$@\"; }}; show {command}"],
            capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
        assert str(home.ca) in shown, program
        assert f"Authorization: Bearer {home.path}" in shown, program
    python = text.split("<<'END'\n")[1].split("\nEND\n")[0]
    literals = {node.value for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Constant)}
    assert {str(home.ca), str(home.token_file)} <= literals
