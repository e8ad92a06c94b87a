"""`call` of a service or another system: begun with a note, so that an effect is never made twice by mistake."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from mesh.errors import TiationError
from orchestrator.errors import CallDeferredError, OutcomeUnknownError, is_unheard
from orchestrator.flow.steps import Call
from orchestrator.problem import StepFailedError, problem_of
from orchestrator.runs import StepKey, StepResult
from orchestrator.scope import Scope
from orchestrator.steps.wait import pause
from orchestrator.steps.walk import Walk, bounded, effect_key

__all__ = ["call"]

_SHORTEST_WAIT_S = 0.05
_LONGEST_WAIT_S = 86_400.0
"""However long a callee wants to be left alone, it is asked again after a day."""
_WITHOUT_EFFECT = frozenset({"GET", "HEAD", "OPTIONS"})


async def call(walk: Walk, step: Call, value: Any, scope: Scope, key: StepKey) -> StepResult:  # noqa: ANN401 -- any JSON
    """Ask; a step that began before calls with what it called with then, or the key would lie."""
    arguments = walk.journal.begun_with(key)
    begun = arguments is not None
    if not begun and not await walk.holds(step.condition, value, scope, step.pointer):
        return StepResult(value, skipped=True)
    given = await walk.evaluate(step.input_from, value, scope, step.pointer)
    if not begun:
        arguments = await _arguments(walk, step, given, scope)
    effect = _has_effect(step.kind, arguments)
    await walk.journal.began(key, bounded(arguments, step.pointer) if effect else None)
    in_doubt = begun  # nothing is known of what was asked then
    while True:
        walk.check(scope)
        asking = walk.calls.call(step.kind, arguments, effect_key(walk.run_name, key))
        try:
            made = await (asking if effect else _interruptible(walk, asking, scope))
        except CallDeferredError as deferred:  # the callee has said when it takes calls again
            in_doubt = in_doubt or deferred.in_doubt
            wait_s = min(max(deferred.wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)
            await pause(walk, walk.waits.clock() + timedelta(seconds=wait_s), scope)
        except TiationError as error:
            told = OutcomeUnknownError(error.message) if in_doubt and is_unheard(error) else error
            raise StepFailedError(problem_of(told, step.pointer)) from None
        else:
            return await walk.result(step, scope, given, made, step.then)


async def _arguments(walk: Walk, step: Call, given: Any, scope: Scope) -> Any:  # noqa: ANN401 -- any JSON
    arguments = await walk.evaluate(step.arguments, given, scope, step.pointer, input=given)
    if step.kind == "http":
        endpoint = arguments["endpoint"]
        uri = endpoint.get("uri") if isinstance(endpoint, dict) else endpoint
        arguments = arguments | {"endpoint": _expanded(uri, given) if isinstance(uri, str) else uri}
    if step.timeout is not None:
        arguments = arguments | {"timeout": await walk.seconds(step.timeout, given, scope, step.pointer)}
    return arguments


def _expanded(uri: str, given: Any) -> str:  # noqa: ANN401 -- any JSON
    """An address whose `{name}`s are replaced by what the step was given, as the DSL says."""
    if not isinstance(given, dict):
        return uri
    for name, value in given.items():
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            uri = uri.replace(f"{{{name}}}", quote(str(value), safe=""))
    return uri


def _has_effect(kind: str, arguments: Any) -> bool:  # noqa: ANN401 -- any JSON
    """Whether a call may change something; integration knows its key then and does nothing twice."""
    if kind == "http":
        return str(arguments.get("method")).upper() not in _WITHOUT_EFFECT
    return kind in ("connect", "grpc")


async def _interruptible(walk: Walk, asking: Any, scope: Scope) -> Any:  # noqa: ANN401 -- a call and its answer
    """A call without an effect, which is given up when its run or its branch is to end."""
    calling = asyncio.ensure_future(asking)
    stopping = asyncio.ensure_future(scope.stopped.wait())
    try:
        await asyncio.wait((calling, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not calling.done():
            walk.check(scope)
        return await calling
    finally:
        stopping.cancel()
        if not calling.done():
            calling.cancel()
            with suppress(asyncio.CancelledError, Exception):  # nobody asks for its answer any more
                await calling
