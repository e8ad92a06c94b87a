"""Flows carried out in memory, step by step, and calls that fail or take their time."""

from __future__ import annotations

import asyncio
import textwrap

from mesh.errors import Code, TiationError
from orchestrator.flow import parse_flow
from tests.fakes.orchestrator_calls import FakeCalls
from tests.fakes.orchestrator_journal import Memory, a_run, carry_out


class AwayError(TiationError):
    """A callee that cannot be reached."""

    code = Code.UNAVAILABLE
    reason = "AWAY"


class UnknownError(TiationError):
    """A call of which nobody knows whether it had its effect."""

    code = Code.UNKNOWN
    reason = "OUTCOME_UNKNOWN"


def go(stage, body, given=None, calls=None, budget=1000, memory=None):
    """Carry a flow out until it ends or is put aside; returns its memory."""
    memory = memory if memory is not None else Memory()
    flow = parse_flow("document: {dsl: 1.0.0, name: a}\n" + textwrap.dedent(body))[0]
    memory.aside = None
    stage.run(carry_out(flow, a_run(given), memory, calls or FakeCalls(), stage.sandbox, budget))
    return memory


def ends(memory):
    """The committed ends of steps, marks left out: kind, step, occurrence."""
    return [
        (event.what.kind, event.what.step, event.what.occurrence)
        for event in memory.events
        if event.what.kind in ("STEP_SUCCEEDED", "STEP_FAILED") and event.what.attempt
    ]


def slow_calls(waits, order):
    """Calls that take as long as `waits` says, in turns of the loop, by the model's name."""

    class Slow(FakeCalls):
        async def call(self, kind, arguments, effect_key):
            name = arguments.get("model") or arguments.get("connection") or arguments.get("decision")
            order.append(f"+{name}")
            for _ in range(waits.get(name, 0)):
                await asyncio.sleep(0.005)
            answer = await super().call(kind, arguments, effect_key)
            order.append(f"-{name}")
            return answer

    return Slow({"infer": lambda given: given["model"], "connect": lambda given: given["connection"]})
