"""A batcher with a few places, and runs that wait until they are let go, for tests of the scheduler."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import fields

from engine.scheduler.batcher import Batcher
from engine.scheduler.policy import BatchPolicy

_POLICY = {field.name for field in fields(BatchPolicy)}


class Gate:
    """A run that waits until it is opened, and remembers its batches."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[int]] = []

    def run(self, items):
        self.entered.set()
        self.open.wait(10)
        self.batches.append(list(items))
        return [item * 2 for item in items]


def batcher(run, **how):
    policy = {"max_rows": 4, "max_waiting": 8} | {key: how.pop(key) for key in _POLICY & set(how)}
    return Batcher(run, name="test", policy=BatchPolicy(**policy), **how)


class Lanes:
    """Two ways to compute, of which each says what it was given and waits until it may answer."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open_alone: threading.Event | None = None
        self.alone: list[list[int]] = []
        self.beside: list[list[int]] = []
        self.asked = 0

    def run(self, items):
        return self._answer(self.alone, items)

    def open_beside(self):
        self.asked += 1
        return lambda items: self._answer(self.beside, items)

    def _answer(self, batches, items):
        batches.append(list(items))
        (self.open_alone or self.open if batches is self.alone else self.open).wait(10)
        time.sleep(0.01)  # a run that is worth a second thread
        return [item * 2 for item in items]


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
