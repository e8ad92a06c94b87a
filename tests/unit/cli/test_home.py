"""The home: its mode, who holds it, what is said when it cannot be one."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cli import holding
from cli.commands import platform
from cli.holding import UP, Holder
from cli.home import Home, HomeInUseError, HomeUnusableError, KeyMissingError, NotRunningError

HOLDER = """
import sys, time
from pathlib import Path
from cli.home import Home
Home(Path(sys.argv[1])).hold(*sys.argv[2:])
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(home):
    """Another process that holds the home."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(home.path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_home_is_for_its_owner_alone_also_when_the_folder_was_there(tmp_path):
    (tmp_path / "open").mkdir(mode=0o755)
    for name in ("open", "new/inside"):
        made = Home(tmp_path / name)
        made.make()
        assert stat.S_IMODE(made.path.stat().st_mode) == 0o700
        assert stat.S_IMODE(made.log("x").parent.stat().st_mode) == 0o700


def test_a_home_that_is_held_is_refused_and_says_by_whom(home, holder):
    with pytest.raises(HomeInUseError, match=rf"already runs on {home.path} \(process {holder.pid}\).*tiation down"):
        home.hold()
    assert home.holder() == Holder(holder.pid, UP)


def test_a_second_up_says_so_and_stops(tiation, home, holder):
    for more in ((), ("--detach",)):
        said = tiation("up", "--home", str(home.path), *more)
        assert said.code == 1
        assert f"a platform already runs on {home.path} (process {holder.pid})" in said.err


def test_a_home_is_free_again_when_its_holder_was_killed(home, holder):
    holder.kill()
    holder.wait()
    assert home.holder() is None
    os.close(home.hold())


def test_asking_for_the_holder_does_not_keep_anybody_from_holding(home):
    os.close(home.hold())
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            home.holder()

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    try:
        for _ in range(20):
            os.close(home.hold())
    finally:
        done.set()
        for thread in asking:
            thread.join()


def test_a_home_that_nobody_ever_held_has_no_holder(tmp_path):
    assert Home(tmp_path / "none").holder() is None


def test_down_stops_the_holder_and_waits_for_its_end(tiation, home, holder):
    threading.Thread(target=holder.wait).start()
    said = tiation("down", "--home", str(home.path))
    assert (said.code, said.out) == (0, "stopped\n")
    assert home.holder() is None


def test_down_waits_for_a_holder_that_has_not_said_who_it_is(tiation, home, holder):
    """Signalling process 0 would stop whoever asked, with everything in its group."""
    said = home.lock_file.read_text()
    home.lock_file.write_text("")

    def tell() -> None:
        time.sleep(0.3)
        home.lock_file.write_text(said)
        holder.wait()

    telling = threading.Thread(target=tell)
    telling.start()
    assert tiation("down", "--home", str(home.path)).code == 0
    telling.join()


def test_down_leaves_a_command_alone_that_holds_the_home(tiation, home):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(home.path), "upgrade"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        for command in ("down", "up"):
            said = tiation(command, "--home", str(home.path))
            assert said.code == 1
            assert f"`tiation upgrade` (process {process.pid}) holds it; wait for its end" in said.err
        assert process.poll() is None
        process.kill()


@pytest.mark.parametrize("words", ["{pid}", '{{"pid": {pid}, "purpose": "up", "started": "1"}}'])
def test_down_signals_nobody_who_does_not_hold_the_home(tiation, home, holder, monkeypatch, words):
    """An earlier holder's words are still there, and its process id has gone to somebody else."""
    monkeypatch.setattr(platform, "_SAYING_S", 0.3)
    with subprocess.Popen(["sleep", "600"]) as other:
        home.lock_file.write_text(words.format(pid=other.pid))
        said = tiation("down", "--home", str(home.path))
        assert said.code == 1
        assert "held by a process that is not known here" in said.err
        assert other.poll() is None
        assert holder.poll() is None
        other.kill()


def test_a_lock_that_was_taken_away_before_it_could_be_taken_is_not_taken_for_the_home_s(home, monkeypatch):
    locked = holding._locked

    def late(descriptor: int, kind: int) -> bool:
        monkeypatch.setattr(holding, "_locked", locked)
        home.lock_file.unlink()
        return locked(descriptor, kind)

    monkeypatch.setattr(holding, "_locked", late)
    held = home.hold()
    try:
        assert home.holder() == Holder(os.getpid(), UP)
    finally:
        os.close(held)


def test_a_home_that_a_restore_has_not_filled_is_refused(tiation, home):
    home.restoring.mkdir()
    for command in (("up",), ("up", "--detach"), ("upgrade",), ("serve", "engine")):
        (home.path / "security").mkdir(exist_ok=True)
        said = tiation(*command, "--home", str(home.path))
        assert said.code == 1
        assert said.err.count("\n") == 1
        assert f"a restore into {home.path} was cut off" in said.err
        assert "run `tiation restore` again" in said.err


def test_a_path_too_long_for_the_socket_in_it_is_refused():
    with TemporaryDirectory(prefix="home", dir="/tmp") as folder:
        fits = Home(Path(folder) / ("x" * (88 - len(folder) - 1)))
        fits.make()
        (fits.path / "gateway").mkdir()
        with socket.socket(socket.AF_UNIX) as admin:
            admin.bind(str(fits.path / "gateway" / "admin.sock"))
        long = Home(fits.path.with_name(fits.path.name + "x"))
        with pytest.raises(HomeUnusableError, match="88 bytes is the most"):
            long.make()
        assert not long.path.exists()


def test_a_file_is_no_home(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HomeUnusableError, match=r"is no folder; choose another home with `--home`"):
        Home(tmp_path / "file").make()


def test_gateway_json_counts_only_while_somebody_holds_the_home(home):
    home.gateway_file.write_text(json.dumps({"url": "https://127.0.0.1:1"}))
    with pytest.raises(NotRunningError, match="tiation up --home"):
        home.gateway()
    held = home.hold()
    try:
        assert home.gateway() == {"url": "https://127.0.0.1:1"}
        home.gateway_file.write_text("{")
        with pytest.raises(NotRunningError):
            home.gateway()
    finally:
        os.close(held)


def test_a_missing_operator_key_is_said_so(home):
    with pytest.raises(KeyMissingError, match=r"operator\.key is missing"):
        home.key()
