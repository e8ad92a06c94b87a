"""SIGKILL of every process of a platform in turn, under load, and what the others' callers notice of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.fakes.installed import Installed
from tests.fakes.load import Answer, Load

__all__ = ["KILLED", "Fault", "import_s", "kill_under_load"]

KILLED = ("security", "engine", "integration", "orchestrator", "analytics", "envoy")
WINDOW_S = 4.0
_BACK_WITHIN_S = 60.0
_SETTLE_S = 1.0
"""After the first answered call the front proxy and clients may need as long to find the way again."""


@dataclass(frozen=True)
class Fault:
    """One kill.

    Attributes:
        service: what was killed.
        killed: when.
        back_s: from the kill to the begin of the first call that it answered again and after which none failed: a
            process may answer some calls while it still starts, and be left out by the front proxy until it serves.
        before: the others' answers in the window before the kill.
        after: the others' answers in the window after it.
        reference_s: what importing three large libraries took just then: how fast the machine was.
    """

    service: str
    killed: float
    back_s: float
    before: Sequence[Answer]
    after: Sequence[Answer]
    reference_s: float

    def excuses(self, answer: Answer) -> bool:
        """Whether a call needed what was dead while it was under way, or had come back only just."""
        return (
            _needs(answer, self.service)
            and answer.ended >= self.killed
            and answer.began <= self.killed + self.back_s + _SETTLE_S
        )

    @property
    def p99_before(self) -> float:
        """Seconds that 99% of the others' calls took at most, before."""
        return _p99(self.before)

    @property
    def p99_after(self) -> float:
        """The same, after."""
        return _p99(self.after)

    @property
    def ratio(self) -> float:
        """How much longer after the kill; 0 where no others are (the front proxy's)."""
        return self.p99_after / self.p99_before if self.after else 0.0


def kill_under_load(here: Installed, load: Load, service: str, reference_s: float) -> Fault:
    """Let the load run for a window, kill, let it run for another one and until the service is back."""
    time.sleep(WINDOW_S)
    killed = time.monotonic()
    here.kill(service)
    dead = time.monotonic()
    time.sleep(WINDOW_S)
    while (back := _back(load, service, dead)) is None:
        assert time.monotonic() - dead < _BACK_WITHIN_S, f"{service} does not come back"
        time.sleep(0.05)

    def others(begin: float, end: float) -> list[Answer]:
        if service == "envoy":
            return []
        return [each for each in load.answers if begin <= each.began < end and each.service != service]

    before, after = others(killed - WINDOW_S, killed), others(dead, dead + WINDOW_S)
    return Fault(service, killed, back - dead, before, after, reference_s)


def import_s() -> float:
    """How long it takes here and now to import what a service stands on: the machine may be anybody's."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import grpc, sqlalchemy, onnxruntime"], check=True)
    return time.monotonic() - began


def _back(load: Load, service: str, dead: float) -> float | None:
    """When the first call began that needs the service and was answered, and after which none failed any more."""
    asked = [each for each in list(load.answers) if each.began >= dead and _needs(each, service)]
    failed = max((each.began for each in asked if each.code != "OK"), default=dead)
    return min((each.began for each in asked if each.code == "OK" and each.began >= failed), default=None)


def _needs(answer: Answer, service: str) -> bool:
    return service in ("envoy", answer.service)


def _p99(answers: Sequence[Answer]) -> float:
    times = sorted(each.took_s for each in answers)
    return times[min(len(times) - 1, int(0.99 * len(times)))]
