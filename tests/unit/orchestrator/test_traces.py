"""What a run and its steps leave in a trace: one tree, whoever worked on it and however often it was put aside."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from tiation.orchestrator.v1 import run_pb2

import orchestrator.executor
import orchestrator.traces
from mesh.pagination import Pages
from mesh.tracing import TraceContext, current_trace, derived_span_id
from orchestrator.executor import Executor, Limits
from orchestrator.servicers.runs import RunServicer
from tests.fakes.orchestrator_calls import FakeCalls
from tests.unit.orchestrator.workplace import AGENT, Workplace

TRACE, ABOVE = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SAMPLED = TraceContext(TRACE, ABOVE, sampled=True)
CALL = "{call: infer, with: {model: m, inputs: {x: [1]}}}"
CONNECT = "{call: connect, with: {connection: c, operation: o}}"
THREE = f"do: [{{s: {{set: {{x: 1}}}}}}, {{t: {CALL}}}, {{e: {CONNECT}}}]"


class Told(FakeCalls):
    """Remembers in which trace each call was made; the one with this number gets no answer."""

    unanswered = 0

    async def call(self, kind, arguments, effect_key):
        self.traces = [*getattr(self, "traces", []), current_trace.get()]
        made = await super().call(kind, arguments, effect_key)
        if len(self.traces) == self.unanswered:
            await asyncio.Event().wait()
        return made


class Traced(Workplace):
    """An orchestrator whose spans a test can read."""

    def __init__(self, database, sandbox, calls=None, **limits):
        super().__init__(database, sandbox, calls)
        self.sandbox, self.calls, self.spans = sandbox, calls or Told(), []
        self.executor = self.another(**limits)

    def another(self, *, lease_s=0.6, max_claims=10):
        """One more executor on the same database; its spans go to the same collector."""
        limits = Limits(8, lease_s, 1000, max_claims)
        return Executor(
            self.database, self.rows, self.agents.flow_of_run, lambda run: self.calls, self.sandbox, self.notices,
            limits, self.spans.append,
        )  # fmt: skip

    async def carried_out(self, body, trace=SAMPLED, **fields):
        """Start a run as a call does that stands in a trace, and wait for its end."""
        await self.bring(body)
        async with self.working():
            with called_from(trace):
                await self.start(**fields)
            run = await self.ended()
            await self.executor.drain()
        return run

    def tree(self):
        """The spans as `name: name of the one above`, which must be there."""
        names = {span.context.span_id: span.name for span in self.spans}
        assert len(names) == len(self.spans), "two spans with one identifier"
        assert {span.context.trace_id for span in self.spans} == {TRACE}
        for span in self.spans:
            assert span.start_ns <= span.end_ns
        return {(span.name, names.get(span.parent, span.parent)) for span in self.spans}

    def span(self, name):
        """The one span of that name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found


class called_from:  # noqa: N801 -- as a function
    """As inside a call that stands there."""

    def __init__(self, trace):
        self.trace = trace

    def __enter__(self):
        self.held = current_trace.set(self.trace)

    def __exit__(self, *_):
        current_trace.reset(self.held)


@pytest.fixture
def here(database, sandbox):
    return Traced(database, sandbox)


@asynccontextmanager
async def that_dies(executor):
    """An executor at work that ends without a word, as a killed process does."""
    await executor.start()
    yield
    for task in [*executor._loops, *(work.task for work in executor._works.values())]:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition):
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_run_hangs_below_the_call_that_created_it_and_its_steps_below_the_run(here):
    run = await here.carried_out(THREE)
    assert here.tree() == {
        ("run a", ABOVE), ("step s", "run a"), ("step t", "run a"), ("step e", "run a"),
    }  # fmt: skip
    whole = here.span("run a")
    assert whole.context.span_id == derived_span_id(f"{run.uid}/1")
    assert whole.attributes == {
        "tiation.run": run.name, "tiation.agent": AGENT, "tiation.revision": run.revision, "tiation.tenant": "default",
        "tiation.state": "SUCCEEDED", "tiation.steps": 3, "tiation.attempt": 1,
    }  # fmt: skip
    assert all(whole.start_ns <= span.start_ns and span.end_ns <= whole.end_ns for span in here.spans)


async def test_what_a_step_calls_is_told_the_step(here):
    await here.carried_out(THREE)
    assert [trace.span_id for trace in here.calls.traces] == [
        here.span(name).context.span_id for name in ("step t", "step e")
    ]


async def test_an_unsampled_run_builds_nothing_and_its_calls_still_name_the_trace(here, monkeypatch):
    def built(*_, **__):
        raise AssertionError("something was built for a trace that is not sampled")

    for name in ("Trail", "History", "run_span", "step_spans"):
        monkeypatch.setattr(orchestrator.executor, name, built)
    monkeypatch.setattr(orchestrator.traces, "Span", built)
    run = await here.carried_out(THREE, TraceContext(TRACE, ABOVE, sampled=False))
    assert run.state == "SUCCEEDED"
    assert not here.spans
    assert {(trace.trace_id, trace.sampled) for trace in here.calls.traces} == {(TRACE, False)}


async def test_every_kind_of_step_has_its_place(here):
    await here.carried_out(
        """do:
          - each: {for: {in: '${ [1, 2] }'}, do: [{one: {set: {x: 1}}}]}
          - both: {fork: {branches: [{left: {do: [{l: {set: {x: 1}}}]}}, {right: {set: {x: 2}}}]}}
          - guarded:
              try: [{bad: {raise: {error: {type: t, status: 500}}}}]
              catch: {retry: {limit: {attempt: {count: 1}}}, do: [{mended: {set: {x: 1}}}]}
          - which: {switch: [{d: {then: end}}]}
        """
    )
    assert here.span("step which")
    named = {(span.name, span.attributes.get("tiation.number")) for span in here.spans}
    assert {
        ("step each round", 0),
        ("step each round", 1),
        ("step guarded attempt", 0),
        ("step guarded attempt", 1),
    } <= named
    assert here.tree() == {
        ("run a", ABOVE), ("step each", "run a"), ("step each round", "step each"), ("step one", "step each round"),
        ("step both", "run a"), ("step left", "step both"), ("step l", "step left"), ("step right", "step both"),
        ("step guarded", "run a"), ("step guarded attempt", "step guarded"), ("step bad", "step guarded attempt"),
        ("step mended", "step guarded"), ("step which", "run a"),
    }  # fmt: skip
    (first, second) = [span for span in here.spans if span.name == "step bad"]
    assert first.error == second.error == "t"
    assert not here.span("step guarded").error


async def test_a_run_that_fails_says_why_in_every_span_down_to_the_step(here):
    await here.carried_out("do: [{around: {do: [{bad: {raise: {error: {type: 'https://e/oops', status: 500}}}}]}}]")
    assert {span.name: span.error for span in here.spans} == {
        "run a": "oops", "step around": "oops", "step bad": "oops",
    }  # fmt: skip
    assert here.span("run a").attributes["tiation.state"] == "FAILED"


async def test_a_branch_that_loses_a_race_ends_where_it_was_stopped(here):
    calls = here.calls
    calls.holding = asyncio.Event()
    await here.carried_out(
        "do: [{race: {fork: {compete: true, branches: [{slow: " + CALL + "}, {fast: {set: {x: 1}}}]}}}]"
    )
    assert here.tree() == {
        ("run a", ABOVE), ("step race", "run a"), ("step slow", "step race"), ("step fast", "step race"),
    }  # fmt: skip
    assert here.span("step slow").attributes["tiation.stopped"]


async def test_a_step_that_waits_is_one_span_over_the_time_that_it_waited_and_none_is_sent_twice(here):
    await here.carried_out("do: [{a: {set: {x: 1}}}, {w: {wait: {seconds: 2}}}, {b: {do: [{c: {set: {x: 1}}}]}}]")
    assert here.tree() == {
        ("run a", ABOVE), ("step a", "run a"), ("step w", "run a"), ("step b", "run a"), ("step c", "step b"),
    }  # fmt: skip
    waited = here.span("step w")
    assert 1.9e9 < waited.end_ns - waited.start_ns < 15e9


@pytest.mark.parametrize("held", [CALL, CONNECT], ids=["infer", "connect"])
async def test_another_executor_sends_what_a_dead_one_had_journalled_once(here, held):
    """The first dies inside a call; the steps before it are committed by then, and nothing was sent."""
    await here.bring(
        f"""do:
          - f: {{fork: {{branches: [{{l: {CALL}}}, {{r: {{set: {{x: 1}}}}}}]}}}}
          - d: {{do: [{{e: {CONNECT}}}, {{last: {held}}}]}}
        """
    )
    here.calls.unanswered = 3
    async with that_dies(here.executor):
        with called_from(SAMPLED):
            await here.start()
        await until(lambda: len(here.calls.asked) >= 3)
    assert not here.spans, "sent before anything was over"
    second = here.another()
    await second.start()
    await here.ended()
    await second.drain()
    await second.stop()
    assert here.tree() == {
        ("run a", ABOVE), ("step f", "run a"), ("step l", "step f"), ("step r", "step f"), ("step d", "run a"),
        ("step e", "step d"), ("step last", "step d"),
    }  # fmt: skip
    told = {trace.span_id for trace in here.calls.traces}
    assert told <= {span.context.span_id for span in here.spans}, "a call of the dead one hangs in the air"


async def test_a_scheduled_run_begins_a_trace_of_its_own(here):
    here.scheduler._begin = lambda: SAMPLED
    await here.bring("do: [{s: {set: {x: 1}}}]")
    here.clock = NOON - timedelta(minutes=1)
    await here.schedule(cron="* * * * *")
    here.clock = NOON + timedelta(seconds=1)
    async with here.working():
        while not here.spans:
            await here.scheduler.look()
            await asyncio.sleep(0.05)
        await until(lambda: any(span.name == "run a" for span in here.spans))
    whole = here.span("run a")
    assert (whole.parent, whole.context.trace_id) == ("", TRACE)
    assert whole.attributes["tiation.schedule"] == "tenants/default/schedules/s"


async def test_a_redriven_run_goes_on_in_its_trace_as_another_span(here):
    broken = [True]

    def answer(given):
        if broken[0]:
            raise TypeError("a mistake of ours")
        return given

    here.calls = Told({"infer": answer})
    await here.carried_out("do: [{s: {set: {x: 1}}}, {t: " + CALL + "}]")
    assert here.span("run a").attributes["tiation.state"] == "DEAD_LETTERED"
    broken[0] = False
    here.executor = here.another()
    async with here.working():
        await here.redrive()
        await here.ended()
        await here.executor.drain()
    first, second = [span for span in here.spans if span.name == "run a"]
    assert first.context.span_id != second.context.span_id
    assert first.end_ns <= second.start_ns
    assert (first.parent, second.parent) == (ABOVE, ABOVE)
    assert here.span("step t").parent == second.context.span_id
    assert here.span("step s").parent == first.context.span_id


async def test_a_fork_belongs_to_the_trace_of_who_forked_and_names_its_source(here):
    await here.carried_out("do: [{s: {set: {x: 1}}}, {d: {do: [{t: " + CALL + "}, {u: {set: {x: 2}}}]}}]")
    here.spans.clear()
    here.executor = here.another()
    async with here.working():
        with called_from(SAMPLED.below("c7ad6b7169203331")):
            await here.fork(step="/do/1/d/do/1/u")
        await here.ended("f1")
        await here.executor.drain()
    assert here.tree() == {("run a", "c7ad6b7169203331"), ("step d", "run a"), ("step u", "step d")}
    assert here.span("run a").attributes["tiation.source"] == f"{AGENT}/runs/r1"
    assert here.span("step d").start_ns >= here.span("run a").start_ns, "it began in the source"


async def test_a_run_that_is_given_up_for_its_crashes_says_so(here):
    await here.bring("do: [{t: " + CALL + "}]")
    here.calls.holding = asyncio.Event()
    async with that_dies(here.executor):
        with called_from(SAMPLED):
            await here.start()
        await until(lambda: here.calls.asked)
    last = here.another(max_claims=1)
    await last.start()
    await until(lambda: here.spans)
    await last.stop()
    assert here.span("run a").attributes["tiation.state"] == "DEAD_LETTERED"
    assert here.span("run a").error == "RUN_POISONOUS"


async def test_a_run_that_is_cancelled_while_it_waits_leaves_its_span_once(here):
    servicer = RunServicer(
        here.admission, here.agents, here.database, here.rows, here.executor, here.notices, Pages(b"k" * 32)
    )
    await here.bring("do: [{s: {set: {x: 1}}}, {w: {wait: {hours: 1}}}]")
    async with here.working():
        with called_from(SAMPLED):
            await here.start()
        await until(lambda: here.spans)
        for _ in range(2):
            await servicer.CancelRun(run_pb2.CancelRunRequest(name=f"{AGENT}/runs/r1"), None)
    assert here.tree() == {("run a", ABOVE), ("step s", "run a")}
    assert here.span("run a").attributes["tiation.state"] == "CANCELLED"


async def test_a_run_that_is_cancelled_at_work_ends_with_the_step_that_was_stopped(here):
    here.calls.unanswered = 1
    await here.bring("do: [{around: {do: [{t: " + CALL + "}]}}]")
    async with here.working():
        with called_from(SAMPLED):
            await here.start()
        await until(lambda: here.calls.asked)
        await here.database.write(
            lambda transaction: here.rows.request_cancel(transaction, f"{AGENT}/runs/r1", datetime.now(UTC))
        )
        here.executor.cancel(f"{AGENT}/runs/r1")
        await until(lambda: here.spans and here.spans[-1].name == "run a")
    assert here.tree() == {("run a", ABOVE), ("step around", "run a"), ("step t", "step around")}
    assert here.span("step t").attributes["tiation.stopped"]
