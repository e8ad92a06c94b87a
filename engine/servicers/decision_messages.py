"""Decisions as the contract carries them: examples, answers and their reasons, both ways."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tiation.engine.v1 import decision_pb2 as pb

from engine.decisions.evaluation import Answer
from engine.decisions.examples import Example, Result
from engine.decisions.explanation import Step
from engine.decisions.graphs import Decision, DecisionVersion
from mesh.json_value import json_to_struct, value_to_json

__all__ = ["answer_message", "decision_of", "examples_of", "result_message", "show_decision", "show_version"]


def decision_of(message: pb.Decision) -> Decision:
    """A decision as it is sent; its first version."""
    aliases = {name: dict(alias.weights) for name, alias in message.aliases.items()}
    return Decision(message.graph, 1, examples_of(message.examples, "decision.examples"), aliases)


def examples_of(messages: Iterable[pb.DecisionExample], field: str) -> tuple[Example, ...]:
    """Examples as they are sent.

    Args:
        messages: the examples.
        field: where they are in the request, for errors.

    Raises:
        InvalidError: one holds a number that JSON does not know.
    """
    return tuple(
        Example(
            each.name,
            value_to_json(each.input, f"{field}[{at}].input"),
            value_to_json(each.output, f"{field}[{at}].output"),
            each.exact,
        )
        for at, each in enumerate(messages)
    )


def show_decision(body: Decision) -> pb.Decision:
    """The fields of a decision that are its own."""
    message = pb.Decision(graph=body.graph, version=body.version)
    for alias, weights in body.aliases.items():
        message.aliases[alias].weights.update(weights)
    _show_examples(message, body.examples)
    return message


def show_version(body: DecisionVersion) -> pb.DecisionVersion:
    """The fields of a version that are its own, but for its number."""
    message = pb.DecisionVersion(graph=body.graph)
    _show_examples(message, body.examples)
    return message


def answer_message(answer: Answer, version: int, *, trace: bool = False) -> pb.DecideResponse:
    """An answer with its reasons, and the trace if it is wanted."""
    message = pb.DecideResponse(version=version, result=json_to_struct(answer.result, "result"))
    message.steps.extend(_step(step) for step in answer.steps)
    if trace and answer.trace is not None:
        message.trace.CopyFrom(json_to_struct(answer.trace, "trace"))
    return message


def result_message(result: Result) -> pb.ExampleResult:
    """How an example was answered."""
    message = pb.ExampleResult(
        name=result.name, passed=result.passed, differences=result.differences, error=result.error
    )
    if result.answer is not None:
        message.result.CopyFrom(json_to_struct(result.answer.result, "result"))
        message.steps.extend(_step(step) for step in result.answer.steps)
    return message


def _show_examples(message: pb.Decision | pb.DecisionVersion, examples: Sequence[Example]) -> None:
    for example in examples:
        message.examples.add(
            name=example.name,
            input=json_to_struct(example.input, "input"),
            output=json_to_struct(example.output, "output"),
            exact=example.exact,
        )


def _step(step: Step) -> pb.DecisionStep:
    message = pb.DecisionStep(node=step.node, title=step.title, type=step.type, text=step.text)
    for rule in step.rules:
        message.rules.add(id=rule.id, number=rule.number, description=rule.description, matched=rule.matched)
    return message
