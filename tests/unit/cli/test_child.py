"""A supervised process: started again when it ends, whatever the reason, and ended when asked, whatever it does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from cli.supervisor.child import Child

STAYS = "import time; print('up', flush=True); time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


class Kept:
    """A child of a small Python program, and what it told."""

    def __init__(self, folder: Path, program: str, prepare: Callable[[], object] = lambda: None, changed=None) -> None:
        self.log = folder / "child.log"
        self.said: list[str] = []
        self.ended: list[str] = []
        self.child = Child(
            "small",
            [sys.executable, "-c", program],
            environment={"WHO": "small"},
            log=self.log,
            prepare=prepare,
            changed=changed or (lambda: None),
            say=self.said.append,
            ended=self.ended.append,
        )


@pytest.fixture
async def keep(tmp_path):
    """Makes children and ends them."""
    made: list[Kept] = []

    def make(program: str, **more) -> Kept:
        made.append(Kept(tmp_path, program, **more))
        made[-1].child.start()
        return made[-1]

    yield make
    for kept in made:
        await kept.child.stop(1.0)


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


async def up(kept: Kept, times: int = 1) -> int:
    """Wait until it has come up so often; returns its process id."""
    await until(lambda: kept.log.exists() and kept.log.read_text().count("up\n") == times and kept.child.pid)
    return kept.child.pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
async def test_a_child_that_is_killed_comes_back(keep, number):
    kept = keep(STAYS)
    first = await up(kept)
    os.kill(first, number)
    second = await up(kept, 2)
    assert first != second
    assert not psutil.pid_exists(first)
    assert kept.said == [f"small was ended by signal {int(number)} ({number.name}); starting it again"]
    assert kept.ended == [f"was ended by signal {int(number)} ({number.name})"]


async def test_a_child_that_ends_by_itself_is_started_again_with_growing_pauses(keep):
    starts: list[float] = []
    kept = keep("raise SystemExit(7)", prepare=lambda: starts.append(time.monotonic()))
    await until(lambda: kept.child.failures >= 5)
    pauses = [after - before for before, after in pairwise(starts)]
    assert pauses[3] - pauses[0] > 0.2  # 50 ms at first, 400 ms the fourth time, give or take a fifth
    assert set(kept.said) == {"small ended with exit code 7; starting it again"}


async def test_what_it_needs_is_laid_before_every_start(keep):
    laid: list[bool] = []
    kept = keep(STAYS, prepare=lambda: laid.append(bool(kept_pid())))

    def kept_pid() -> int:
        return kept.child.pid if laid else 0

    os.kill(await up(kept), signal.SIGKILL)
    await up(kept, 2)
    assert laid == [False, False]


async def test_a_start_that_fails_is_tried_again_and_says_why(keep):
    full = [True]

    def prepare() -> None:
        if full[0]:
            raise OSError(28, "No space left on device", "svid.json")

    kept = keep(STAYS, prepare=prepare)
    await until(lambda: kept.child.failures >= 2)
    assert "No space left on device" in kept.child.last_words()
    assert kept.child.pid == 0
    full[0] = False
    assert await up(kept) > 0
    assert "cannot be started" in kept.said[0]


async def test_a_program_that_does_not_exist_does_not_end_the_keeper(tmp_path):
    child = Child(
        "none", [str(tmp_path / "none")], environment={}, log=tmp_path / "log", prepare=lambda: None,
        changed=lambda: None,
    )  # fmt: skip
    child.start()
    await until(lambda: child.failures >= 2)
    assert "FileNotFoundError" in child.last_words()
    await child.stop(1.0)


async def test_a_note_that_cannot_be_written_neither_ends_it_nor_starts_a_second_one(keep, tmp_path):
    def changed() -> None:
        raise OSError(28, "No space left on device", "gateway.json")

    kept = keep(STAYS, changed=changed)
    first = await up(kept)
    await asyncio.sleep(0.3)
    assert kept.child.pid == first
    assert kept.log.read_text() == "up\n"
    assert "its process id is not noted" in kept.said[0]


async def test_it_is_asked_to_end_and_does_not_come_back(keep):
    kept = keep(STAYS)
    pid = await up(kept)
    began = time.monotonic()
    await kept.child.stop(5.0)
    assert time.monotonic() - began < 2.0
    assert not psutil.pid_exists(pid)
    await asyncio.sleep(0.3)
    assert kept.child.pid == 0
    assert kept.log.read_text() == "up\n"
    assert kept.said == []


async def test_one_that_does_not_listen_is_killed_when_its_time_is_over(keep):
    kept = keep(DEAF)
    pid = await up(kept)
    began = time.monotonic()
    await kept.child.stop(0.3)
    assert 0.3 <= time.monotonic() - began < 3.0
    assert not psutil.pid_exists(pid)


async def test_kill_does_not_wait(keep):
    kept = keep(DEAF)
    pid = await up(kept)
    stopping = asyncio.create_task(kept.child.stop(60.0))
    await asyncio.sleep(0.05)
    kept.child.kill()
    await asyncio.wait_for(stopping, 3.0)
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("pause_s", [0.0, 0.001, 0.003, 0.01])
async def test_a_stop_during_a_start_leaves_no_process(keep, pause_s):
    before = {process.pid for process in psutil.Process().children()}
    kept = keep(STAYS)
    await asyncio.sleep(pause_s)
    await kept.child.stop(2.0)
    assert {process.pid for process in psutil.Process().children()} <= before


async def test_its_last_words_are_those_of_its_last_life_as_people_read_them(keep, tmp_path):
    (tmp_path / "child.log").write_text("from another day\n")
    line = {"message": "service stopped", "error": "the key is wrong", "@timestamp": "now"}
    kept = keep(f"print('not JSON'); print({json.dumps(line)!r}, flush=True); raise SystemExit(1)")
    await until(lambda: kept.child.failures >= 2)
    await kept.child.stop(1.0)
    assert kept.child.last_words() == "not JSON\nservice stopped: the key is wrong"


async def test_it_has_the_environment_it_was_given_and_nothing_else(keep, tmp_path):
    kept = keep("import json, os, time; print(json.dumps(dict(os.environ))); print('up', flush=True); time.sleep(600)")
    await up(kept)
    seen = json.loads(kept.log.read_text().splitlines()[0])
    assert seen.pop("WHO") == "small"
    assert not set(seen) - {"LC_CTYPE"}  # which Python sets for itself


PARENT = """
import asyncio, sys
from pathlib import Path
from cli.supervisor.child import Child

async def main():
    child = Child("small", [sys.executable, "-c", "import time; time.sleep(600)"], environment={},
                  log=Path(sys.argv[1]), prepare=lambda: None, changed=lambda: None)
    child.start()
    while not child.pid:
        await asyncio.sleep(0.01)
    print(child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_children_die_with_a_supervisor_that_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "log")], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        child = psutil.Process(pid)
        assert child.is_running()
        parent.kill()
        parent.wait()
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
