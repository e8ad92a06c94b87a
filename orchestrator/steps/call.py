"""`call` of a service or another system: begun with a note, so that an effect is never made twice by mistake."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from mesh.errors import TiationError
from orchestrator.flow.steps import Call
from orchestrator.journal import HandedBackError
from orchestrator.problem import OUTCOME_UNKNOWN, Problem, StepFailedError, problem_of
from orchestrator.runs import StepKey, StepResult
from orchestrator.scope import Scope
from orchestrator.steps.walk import Walk, bounded, effect_key

__all__ = ["call"]

_NONE, _IDEMPOTENT, _UNSAFE = "NONE", "IDEMPOTENT", "UNSAFE"
_METHODS = {"GET": _NONE, "HEAD": _NONE, "OPTIONS": _NONE, "PUT": _IDEMPOTENT, "DELETE": _IDEMPOTENT}


async def call(walk: Walk, step: Call, value: Any, scope: Scope, key: StepKey) -> StepResult:  # noqa: ANN401 -- any JSON
    """Ask; a step that began before calls with what it called with then, or the key would lie."""
    arguments = walk.journal.begun_with(key)
    begun = arguments is not None
    if not begun and not await walk.holds(step.condition, value, scope, step.pointer):
        return StepResult(value, skipped=True)
    given = await walk.evaluate(step.input_from, value, scope, step.pointer)
    if not begun:
        arguments = await _arguments(walk, step, given, scope)
    effect = _effect_of(step.kind, arguments)
    if begun and effect == _UNSAFE:
        raise StepFailedError(_unknown(step))
    await walk.journal.began(key, bounded(arguments, step.pointer) if effect != _NONE else None)
    try:
        walk.check(scope)
    except HandedBackError:
        if effect != _UNSAFE:  # nobody could say afterwards that it was never made
            raise
    asking = walk.calls.call(step.kind, arguments, effect_key(walk.run_name, key))
    try:
        made = await (_interruptible(walk, asking, scope) if effect == _NONE else asking)
    except TiationError as error:
        raise StepFailedError(problem_of(error, step.pointer)) from None
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


def _effect_of(kind: str, arguments: Any) -> str:  # noqa: ANN401 -- any JSON
    """Whether a call changes something, and may be made again under the same key."""
    match kind:
        case "connect":
            return _IDEMPOTENT  # integration knows the key
        case "http":
            return _METHODS.get(str(arguments.get("method")).upper(), _UNSAFE)
        case "grpc":
            return _UNSAFE
        case _:
            return _NONE


def _unknown(step: Call) -> Problem:
    detail = "the orchestrator was interrupted while the call was made; look at the other system, then decide"
    return Problem.of_kind("communication", 500, "Outcome unknown", detail, step.pointer, OUTCOME_UNKNOWN)


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
