"""The budget of cores: who runs when models are busy together, and that nobody waits for long."""

from __future__ import annotations

import threading
import time

import pytest

from engine.runtime.budget import CoreBudget


class Model:
    """Runs on a thread of its own, again and again, and counts how often."""

    def __init__(self, budget, *, cores=2, run_s=0.005):
        self.share = budget.share()
        self.cores, self.run_s = cores, run_s
        self.runs = 0
        self.longest_wait_s = self.held_s = 0.0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self):
        while not self._ends.is_set():
            asked = time.perf_counter()
            with self.share.hold(self.cores):
                began = time.perf_counter()
                self.longest_wait_s = max(self.longest_wait_s, began - asked)
                time.sleep(self.run_s)
                self.held_s += time.perf_counter() - began
                self.runs += 1

    def end(self):
        self._ends.set()
        self._thread.join()


def test_runs_on_all_cores_take_turns():
    budget, under_way, most = CoreBudget(2), [], []

    def run(share):
        for _ in range(20):
            with share.hold(2):
                under_way.append(1)
                most.append(len(under_way))
                time.sleep(0.001)
                under_way.pop()

    threads = [threading.Thread(target=run, args=(budget.share(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}


def test_runs_that_leave_a_core_free_go_beside_each_other():
    budget, both = CoreBudget(2), threading.Barrier(2, timeout=5)

    def run(share):
        with share.hold(1):
            both.wait()

    threads = [threading.Thread(target=run, args=(budget.share(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not both.broken


def test_models_have_equal_time_however_long_their_runs_are():
    budget = CoreBudget(2)
    models = [Model(budget, run_s=0.02), Model(budget, run_s=0.004)]
    time.sleep(1.0)
    for model in models:
        model.end()
    long, short = (model.held_s for model in models)
    assert short / long > 0.5  # it would be a fifth if they took turns run by run


def test_a_run_that_goes_on_and_on_holds_nobody_up():
    budget, ends = CoreBudget(2), threading.Event()

    def endless(share):
        with share.hold(2):
            ends.wait(10)

    thread = threading.Thread(target=endless, args=(budget.share(),))
    thread.start()
    time.sleep(0.02)
    model = Model(budget, run_s=0.001)
    time.sleep(0.5)
    model.end()
    ends.set()
    thread.join()
    assert model.longest_wait_s < 2  # a slice, and what else the machine does
    assert model.runs > 20


def test_one_that_was_idle_does_not_keep_the_others_away_when_it_comes_back():
    budget = CoreBudget(2)
    busy = Model(budget, run_s=0.005)
    time.sleep(0.5)
    back = Model(budget, run_s=0.005)
    time.sleep(0.3)
    before = busy.runs
    time.sleep(0.4)
    after = busy.runs
    for model in (busy, back):
        model.end()
    assert after - before > 5


def test_a_thread_that_has_cores_does_not_wait_for_itself():
    share = CoreBudget(1).share()
    began = time.perf_counter()
    with share.hold(1), share.hold(1), share.hold(1):
        pass
    assert time.perf_counter() - began < 0.05


def test_cores_are_given_back_when_a_run_fails():
    share = CoreBudget(1).share()
    for _ in range(3):
        with pytest.raises(KeyError), share.hold(1):
            raise KeyError
    began = time.perf_counter()
    with share.hold(1):
        assert time.perf_counter() - began < 0.05


def test_a_hold_within_another_gives_nothing_back_before_its_end():
    budget, other_has_it = CoreBudget(1), threading.Event()
    hold, rest = budget.share().hold(1), budget.share().hold(0)

    def wait_for_it():
        with budget.share().hold(1):
            other_has_it.set()

    with hold:
        thread = threading.Thread(target=wait_for_it)
        thread.start()
        with hold, rest:
            pass
        assert not other_has_it.wait(0.03)  # less than a slice
    thread.join()
    assert other_has_it.is_set()
    with rest, hold:
        pass
    assert not budget.loans
