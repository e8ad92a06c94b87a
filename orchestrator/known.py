"""What a run's journalled events say of its steps: a fold, made once when an executor takes the run up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from orchestrator.approvals import Answer, Question
from orchestrator.problem import Problem
from orchestrator.runs import NewEvent, StepKey, StepResult

__all__ = ["Asked", "Known", "Timer"]


class Timer(msgspec.Struct, frozen=True):
    """A step waits from a moment until another."""

    since: datetime
    until: datetime


class Asked(msgspec.Struct, frozen=True):
    """What a step asks, and the name of the approval to answer."""

    approval: str
    question: Question


class Known:
    """What is known.

    Args:
        events: in order.

    Attributes:
        outcomes: what steps came to.
        attempts: how often each has begun.
        arguments: what calls with an effect were given.
        timers: until when steps wait.
        asked: what steps ask of people.
        answers: what was answered.
    """

    def __init__(self, events: Iterable[NewEvent]) -> None:
        self.outcomes: dict[StepKey, StepResult | Problem] = {}
        self.attempts: Counter[StepKey] = Counter()
        self.arguments: dict[StepKey, Any] = {}
        self.timers: dict[StepKey, Timer] = {}
        self.asked: dict[StepKey, Asked] = {}
        self.answers: dict[StepKey, Answer] = {}
        for event in events:
            self._fold(event)

    def _fold(self, event: NewEvent) -> None:
        key = event.key
        match event.kind:
            case "STEP_STARTED":
                self.attempts[key] += 1
                if event.value is not None:
                    self.arguments[key] = event.value
            case "STEP_SUCCEEDED" if event.result is not None:
                self.outcomes[key] = event.result
            case "STEP_FAILED" if event.problem is not None:
                self.outcomes[key] = event.problem
            case "STEP_WAITING":
                self.timers[key] = msgspec.convert(event.value, Timer)
            case "INPUT_REQUESTED":
                self.asked[key] = msgspec.convert(event.value, Asked)
            case "INPUT_RECEIVED":
                self.answers[key] = msgspec.convert(event.value, Answer)
