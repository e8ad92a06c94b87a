"""`call: approve`: asks a person and waits; the answer, and who gave it, is what the step makes."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import msgspec

from orchestrator.approvals import DEFAULT_OPTIONS, Question
from orchestrator.flow.durations import seconds_of
from orchestrator.flow.steps import Approve
from orchestrator.problem import Problem, StepFailedError
from orchestrator.runs import StepKey, StepResult
from orchestrator.scope import Scope, StoppedError
from orchestrator.steps.walk import Walk, bounded

__all__ = ["approve"]

_MAX_NAMES = 32
_MAX_NAME = 63
_MAX_TEXT = 4096
_MAX_TITLE = 200


async def approve(walk: Walk, step: Approve, value: Any, scope: Scope, key: StepKey) -> StepResult:  # noqa: ANN401
    """Ask, wait, and pass the answer on; fails with the DSL's timeout where nobody answers in time."""
    question = walk.journal.question(key)
    if question is None and not await walk.holds(step.condition, value, scope, step.pointer):
        return StepResult(value, skipped=True)
    given = await walk.evaluate(step.input_from, value, scope, step.pointer)
    if question is None:
        asked = await walk.evaluate(step.question, given, scope, step.pointer, input=given)
        question = _question(walk, step, bounded(asked, step.pointer))
    await walk.journal.asks(key, question)
    try:
        check = partial(walk.check, scope)
        answer = await walk.waits.until(question.until, check, partial(walk.journal.answer, key))
    except StoppedError:
        await walk.journal.closes(key, "WITHDRAWN")
        raise
    if answer is None:
        answer = await walk.journal.closes(key, "EXPIRED")
    if answer is None:
        detail = f"nobody answered `{question.title}` until {question.until}"
        raise StepFailedError(
            Problem.of_kind("timeout", 408, "No answer in time", detail, step.pointer, "APPROVAL_EXPIRED")
        )
    return await walk.result(step, scope, given, msgspec.to_builtins(answer), step.then)


def _question(walk: Walk, step: Approve, asked: dict[str, Any]) -> Question:
    """What is asked, from what the step's expressions made."""
    try:
        until = None
        if asked.get("timeout") is not None:
            until = walk.waits.clock() + timedelta(seconds=seconds_of(asked["timeout"]))
        return Question(
            title=_text(asked, "title", _MAX_TITLE),
            description=_text(asked, "description", _MAX_TEXT),
            data=asked.get("data"),
            options=_names(asked, "options") or DEFAULT_OPTIONS,
            approvers=tuple(_full(name, walk.tenant) for name in _names(asked, "approvers")),
            four_eyes=_flag(asked, "four_eyes"),
            until=until,
        )
    except ValueError as error:
        problem = Problem.of_kind("validation", 400, "Nothing to ask", str(error), step.pointer, "QUESTION_INVALID")
        raise StepFailedError(problem) from None


def _text(asked: dict[str, Any], name: str, most: int) -> str:
    text = asked.get(name) or ""
    if not isinstance(text, str) or len(text) > most or (name == "title" and not text):
        raise ValueError(f"`{name}` must be a text of at most {most} characters")
    return text


def _names(asked: dict[str, Any], name: str) -> tuple[str, ...]:
    names = asked.get(name) or []
    if not isinstance(names, list) or len(names) > _MAX_NAMES:
        raise ValueError(f"`{name}` must be a list of at most {_MAX_NAMES} texts")
    for each in names:
        if not isinstance(each, str) or not each or (name == "options" and len(each) > _MAX_NAME):
            raise ValueError(f"`{name}` must hold texts only")
    if len(set(names)) != len(names):
        raise ValueError(f"`{name}` says one thing twice")
    return tuple(names)


def _flag(asked: dict[str, Any], name: str) -> bool:
    value = asked.get(name)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"`{name}` must be true or false")
    return bool(value)


def _full(name: str, tenant: str) -> str:
    """A principal's or role's full name: `alice`, `principals/alice`, `roles/operator`, or full already."""
    if name.startswith("tenants/"):
        return name
    return f"tenants/{tenant}/{name}" if "/" in name else f"tenants/{tenant}/principals/{name}"
