"""A whole orchestrator without its servicers: agents, admission, an executor and the scheduler on one database."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import msgspec

from mesh.catalogue import NotFoundError
from mesh.entries import Creation
from mesh.entry_store import EntryStore
from mesh.identity import Requester
from mesh.pagination import Page
from orchestrator.admission import Admission, Fork, Wanted
from orchestrator.agents import Agent, Agents
from orchestrator.executor import Executor, Limits
from orchestrator.filter import Order
from orchestrator.notices import Notices
from orchestrator.runs import ENDED
from orchestrator.scheduler import Scheduler
from orchestrator.schedules import Schedule, Schedules
from orchestrator.store import RunStore, ScheduleStore

AGENT = "tenants/default/agents/a"
ASKER = Requester("default", "tenants/default/principals/p")
HEAD = "document: {dsl: 1.0.0, name: a}\n"


class Workplace:
    """One orchestrator.

    Attributes:
        clock: what its scheduler takes for now.
        allowed: what the policy says of anybody.
    """

    def __init__(self, database, sandbox=None, calls=None, *, lease_s=0.6, max_queued=0):
        self.database, self.rows, self.standings = database, RunStore(), ScheduleStore()
        self.agents = Agents(database, EntryStore(), self.rows)
        self.notices = Notices()
        self.clock, self.allowed = datetime.now(UTC), True
        limits = Limits(8, lease_s, 1000)
        self.executor = Executor(
            database, self.rows, self.agents.flow_of_run, lambda run: calls, sandbox, self.notices, limits
        )
        self.admission = Admission(database, self.agents, self.rows, max_queued)
        self.schedules = Schedules(
            database, EntryStore(), self.standings, lambda *_: self.allowed, now=lambda: self.clock
        )
        self.scheduler = Scheduler(
            database, self.schedules, self.standings, self.rows, self.admission, self.executor.wake,
            now=lambda: self.clock,
        )  # fmt: skip

    @asynccontextmanager
    async def working(self):
        await self.executor.start()
        try:
            yield self
        finally:
            await self.executor.stop()

    async def bring(self, body, **fields):
        """Create the agent `a`, or give it another flow."""
        flow = HEAD + body

        def change(entry):
            more = {"flow": flow, "revision": entry.body.revision + 1, **fields}
            return replace(entry, body=msgspec.structs.replace(entry.body, **more))

        try:
            return await self.agents.update(Agent, AGENT, "", change)
        except NotFoundError:
            return await self.agents.create(AGENT, Agent(flow, **fields), {}, Creation("", "d"))

    async def start(self, given=None, run_id="r1", **fields):
        made = await self.admission.create(Wanted(AGENT, run_id, given, ASKER, **fields), Creation("", run_id))
        self.executor.wake()
        return made

    async def fork(self, run_id="f1", source=f"{AGENT}/runs/r1", **fields):
        given = {
            "after_sequence": 0, "step": "", "requester": ASKER, "revision": "", "labels": {}, "input": None,
            "replaces_input": False, **fields,
        }  # fmt: skip
        made = await self.admission.fork(Fork(source=source, run_id=run_id, **given), Creation("", run_id))
        self.executor.wake()
        return made

    async def redrive(self, run_id="r1", by="tenants/default/principals/q"):
        def work(transaction):
            return self.admission.redrive(transaction, f"{AGENT}/runs/{run_id}", by, datetime.now(UTC))

        run = await self.database.write(work)
        self.executor.wake()
        return run

    async def get(self, run_id="r1"):
        return await self.database.read(lambda transaction: self.rows.get(transaction, f"{AGENT}/runs/{run_id}"))

    async def events(self, run_id="r1"):
        found = await self.database.read(
            lambda transaction: self.rows.events(transaction, f"{AGENT}/runs/{run_id}", 0, 10_000)
        )
        assert [event.sequence for event in found] == list(range(1, len(found) + 1))
        return found

    async def ended(self, run_id="r1"):
        async with asyncio.timeout(15):
            while (run := await self.get(run_id)).state not in ENDED:
                await asyncio.sleep(0.01)
            return run

    async def schedule(self, schedule_id="s", **fields):
        given = {"agent": AGENT, "requester": ASKER, **fields}
        name = f"tenants/default/schedules/{schedule_id}"
        await self.schedules.create(name, Schedule(**given), {"team": "one"}, Creation("", schedule_id))
        return name

    async def standing(self, schedule_id="s"):
        name = f"tenants/default/schedules/{schedule_id}"
        return (await self.schedules.standing([name]))[name]

    async def runs(self):
        found, _ = await self.database.read(
            lambda transaction: self.rows.page(transaction, AGENT, Page(1000, None), None, Order("create_time"))
        )
        return found
