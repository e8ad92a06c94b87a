"""Executors on a real database, and what a test asks of the runs they work on."""

from __future__ import annotations

import asyncio
import textwrap
from contextlib import asynccontextmanager

from mesh.db import DatabaseFullError
from orchestrator.executor import Executor, Limits
from orchestrator.flow import parse_flow
from orchestrator.notices import Notices
from orchestrator.runs import ENDED
from orchestrator.store import RunStore
from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import RUN, a_run

ROWS = RunStore()
PLAIN = "do: [{s: {set: {x: 1}}}]"
EFFECT = "do: [{e: {call: connect, with: {connection: c, operation: o}}}, {s: {set: {x: 1}}}]"
THINK = "do: [{t: {call: infer, with: {model: m, inputs: {x: [1]}}}}, {s: {set: {x: 1}}}]"
ENDLESS = "do: [{s: {set: {x: 1}, then: s}}]"


class Reach:
    """A database that a test may cut off, as a full disk or a stalled process does."""

    def __init__(self, database):
        self._database = database
        self.broken = False

    async def write(self, work, *, durable=True):
        if self.broken:
            raise DatabaseFullError("no space is left")
        return await self._database.write(work, durable=durable)

    async def read(self, work):
        return await self._database.read(work)


def executor(database, sandbox, body=PLAIN, calls=None, *, concurrent=8, lease_s=0.6, budget=1000):
    flow = parse_flow("document: {dsl: 1.0.0, name: a}\n" + textwrap.dedent(body))[0]

    async def flow_of(_):
        return flow

    limits = Limits(concurrent, lease_s, budget)
    return Executor(database, ROWS, flow_of, lambda run: calls or FakeCalls(), sandbox, Notices(), limits)


@asynccontextmanager
async def working(*executors):
    for each in executors:
        await each.start()
    try:
        yield
    finally:
        for each in executors:
            await each.stop()


async def add(database, count=1, **fields):
    names = [f"{RUN}-{number}" for number in range(count)] if count > 1 else [RUN]
    for name in names:
        await database.write(lambda transaction, name=name: ROWS.add(transaction, a_run(name=name, **fields), "", "d"))
    return names


async def run_of(database, name=RUN):
    return await database.read(lambda transaction: ROWS.get(transaction, name))


async def journal_of(database, name=RUN):
    """A run's events with their times; none may be missing."""
    events = await database.read(lambda transaction: ROWS.events(transaction, name, 0, 10_000))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    return events


async def events_of(database, name=RUN):
    return [event.what for event in await journal_of(database, name)]


async def until(check, seconds=8.0):
    """Wait until something holds; returns it."""
    async with asyncio.timeout(seconds):
        while not (found := await check()):
            await asyncio.sleep(0.01)
        return found


async def in_state(database, *states, name=RUN, seconds=8.0):
    """Wait until a run is in one of the states; returns it."""

    async def check():
        run = await run_of(database, name)
        return run if run.state in states else None

    return await until(check, seconds)


async def ended(database, name=RUN, seconds=8.0):
    return await in_state(database, *ENDED, name=name, seconds=seconds)


async def held(calls, count):
    return len(calls.asked) >= count


async def cancel(database, *executors):
    run = await database.write(lambda transaction: ROWS.request_cancel(transaction, RUN, a_run().create_time))
    for each in executors:
        each.cancel(RUN)
    return run
