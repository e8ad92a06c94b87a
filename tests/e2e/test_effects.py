"""SIGKILL around an effect: before it happens, and after it happened and before anybody has noted that it did.

The test decides when the effect happens: it holds the CRM's write lock until the processes are as it wants them.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from tiation.orchestrator.v1 import run_pb2

from tests.e2e.test_kills import check_completed, events_until_end, start
from tests.fakes.installed import EXAMPLE, Installed, installed

EFFECT = "open-ticket"
WAIT_S = 30.0
ROUNDS = 2


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Installed]:
    """A platform of this module's own; what the CRM answers is mapped, so that the answer can be held up there."""
    folder = tmp_path_factory.mktemp("effects")
    with installed(folder / "home") as made:
        made.deploy_example()
        mapped = folder / "crm.yaml"
        mapped.write_text(
            (EXAMPLE / "crm.yaml").read_text().replace("effect: IDEMPOTENT", "effect: IDEMPOTENT\n    output: .")
        )
        made.command("connections", "apply", str(mapped))
        yield made


class Followed:
    """A run that is followed to its end in the background."""

    def __init__(self, here: Installed, run_id: str) -> None:
        self.name = start(here, len(run_id), run_id)
        self.seen: list[run_pb2.RunEvent] = []
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._follow, args=(here,))
        self._thread.start()

    def _follow(self, here: Installed) -> None:
        try:
            events_until_end(here, self.name, timeout_s=90, seen=self.seen)
        except Exception as error:  # noqa: BLE001 -- it is raised again by whoever waits
            self._failure.append(error)

    def steps(self, kind: int) -> list[str]:
        """The steps with an event of a kind, so far."""
        return [event.step for event in list(self.seen) if event.type == kind]

    def until_effect_begins(self) -> None:
        """Wait until the journal says that the step with the effect has begun."""
        wait(lambda: any(EFFECT in step for step in self.steps(run_pb2.RunEvent.STEP_STARTED)), "the step began")

    def end(self) -> list[run_pb2.RunEvent]:
        """Every event, once the run has ended."""
        self._thread.join()
        if self._failure:
            raise self._failure[0]
        return self.seen


def wait(condition, what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_S} s"
        time.sleep(0.001)


@contextmanager
def crm_closed(here: Installed) -> Iterator[None]:
    """Nobody writes into the CRM meanwhile."""
    database = sqlite3.connect(here.crm, isolation_level=None, timeout=30)
    try:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")
    finally:
        database.close()


def is_in_crm(here: Installed, run_id: str) -> bool:
    return run_id in here.tickets()


@pytest.mark.parametrize("service", ["orchestrator", "integration"])
def test_a_kill_before_an_effect_happens_leaves_it_to_happen_once(here: Installed, service: str):
    here.wait_serving()
    with crm_closed(here):
        run = Followed(here, f"before-{service}")
        run.until_effect_begins()
        here.kill(service)
        assert not is_in_crm(here, f"before-{service}")
    check_completed(here, run.name, run.end())


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_kill_of_the_orchestrator_after_an_effect_does_not_repeat_it(here: Installed, number: int):
    here.wait_serving()
    run_id = f"after-orchestrator-{number}"
    with crm_closed(here):
        run = Followed(here, run_id)
        run.until_effect_begins()
        os.kill(here.pid("orchestrator"), signal.SIGSTOP)  # it has asked, and will not read the answer
    wait(lambda: is_in_crm(here, run_id), "the ticket is there")
    here.kill("orchestrator")
    assert not any(EFFECT in step for step in run.steps(run_pb2.RunEvent.STEP_SUCCEEDED))
    check_completed(here, run.name, run.end())


@pytest.mark.parametrize("also", [(), ("orchestrator",)], ids=["alone", "with the orchestrator"])
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_kill_of_integration_after_an_effect_does_not_repeat_it(here: Installed, number: int, also: tuple[str, ...]):
    here.wait_serving()
    run_id = f"after-integration-{number}-{len(also)}"
    with crm_closed(here):
        run = Followed(here, run_id)
        run.until_effect_begins()
        for worker in psutil.Process(here.pid("integration")).children(recursive=True):
            worker.suspend()  # what maps the answer, which is therefore not given
    wait(lambda: is_in_crm(here, run_id), "the ticket is there")
    for service in ("integration", *also):
        here.kill(service)
    assert not any(EFFECT in step for step in run.steps(run_pb2.RunEvent.STEP_SUCCEEDED))
    check_completed(here, run.name, run.end())
