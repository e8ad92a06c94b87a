"""Examples of a decision: facts with the answer that they must get, and how they were answered.

Evaluating happens in the sandbox; which examples a decision has is `engine.decisions.graphs`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from engine.decisions.errors import DecisionExamplesError, DecisionFailedError
from engine.decisions.evaluation import MAX_ANSWERS_BYTES, Answer
from mesh.errors import Code, InvalidError
from mesh.sandbox import SandboxError

__all__ = ["MAX_EXAMPLE_BYTES", "Example", "Result", "check_examples", "differences", "refuse_failed", "run_examples"]

MAX_EXAMPLE_BYTES = 1 << 20
"""All examples of a decision, as JSON."""
_MAX_DIFFERENCES = 16
_MAX_SHOWN = 200
_CLOSE = 1e-9
_OVER_TIME = frozenset({"SANDBOX_DEADLINE", "SANDBOX_MEMORY", "SANDBOX_CRASHED"})
_MAX_STOPPED = 3
"""Examples that may break the sandbox's limits before the others are not run any more: each costs a second."""

Evaluate: TypeAlias = Callable[[Any], Awaitable[Answer]]


class Example(msgspec.Struct, frozen=True):
    """What a decision must answer to some facts.

    Attributes:
        name: what it shows.
        input: the facts, a JSON object.
        output: what the answer must hold, a JSON object.
        exact: whether it must hold nothing besides.
    """

    name: str
    input: dict[str, Any]
    output: dict[str, Any]
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """How an example was answered.

    Attributes:
        name: the example's.
        answer: what the decision answered; None where it failed.
        differences: where that is another than expected.
        error: why there is no answer.
    """

    name: str
    answer: Answer | None
    differences: tuple[str, ...] = ()
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether it was answered as it says."""
        return not self.differences and not self.error


def check_examples(examples: Sequence[Example], field: str) -> None:
    """See that examples can be kept.

    Raises:
        InvalidError: two have the same name, or they are too large.
    """
    known: set[str] = set()
    for at, example in enumerate(examples):
        if example.name in known:
            raise InvalidError(f"{field}[{at}].name", f"`{example.name}` is there twice")
        known.add(example.name)
    size = len(msgspec.json.encode(examples))
    if size > MAX_EXAMPLE_BYTES:
        raise InvalidError(field, f"{size} bytes of JSON are more than the {MAX_EXAMPLE_BYTES} allowed")


def refuse_failed(results: Sequence[Result]) -> None:
    """Let only what passed go on.

    Raises:
        DecisionExamplesError: an example did not.
    """
    failed = [
        (at, f"`{result.name}`: {result.error or '; '.join(result.differences)}")
        for at, result in enumerate(results)
        if not result.passed
    ]
    if failed:
        raise DecisionExamplesError(failed, len(results))


async def run_examples(examples: Sequence[Example], evaluate: Evaluate) -> list[Result]:
    """How each is answered, one after the other.

    Raises:
        SandboxBusyError, SandboxUnavailableError: the sandbox cannot be asked.
    """
    results: list[Result] = []
    stopped = size = 0
    for example in examples:
        if stopped >= _MAX_STOPPED:
            results.append(Result(example.name, None, error=f"not run: {stopped} before it broke the sandbox's limits"))
            continue
        if size > MAX_ANSWERS_BYTES:
            said = f"not run: the answers before it are more than {MAX_ANSWERS_BYTES} bytes"
            results.append(Result(example.name, None, error=said))
            continue
        try:
            answer = await evaluate(example.input)
        except (SandboxError, DecisionFailedError) as error:
            if error.code not in (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION):
                raise
            stopped += error.reason in _OVER_TIME
            results.append(Result(example.name, None, error=error.message))
        else:
            size += answer.size
            results.append(Result(example.name, answer, tuple(differences(example, answer.result))))
    return results


def differences(example: Example, result: dict[str, Any]) -> list[str]:
    """Where an answer is another than the example says, by path; the first 16."""
    found = []
    for said in _differences("", example.output, result, exact=example.exact):
        found.append(said)
        if len(found) == _MAX_DIFFERENCES:
            break
    return found


def _differences(path: str, wanted: Any, got: Any, *, exact: bool) -> Iterator[str]:  # noqa: ANN401 -- any JSON
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key, value in wanted.items():
            below = f"{path}.{key}" if path else key
            if key in got:
                yield from _differences(below, value, got[key], exact=exact)
            else:
                yield f"{below}: expected {_shown(value)}, got nothing"
        for key in got if exact else ():
            if key not in wanted:
                yield f"{path}.{key}: not expected, got {_shown(got[key])}".removeprefix(".")
    elif isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        for at, (one, other) in enumerate(zip(wanted, got, strict=True)):
            yield from _differences(f"{path}[{at}]", one, other, exact=exact)
    elif not _same(wanted, got):
        yield f"{path}: expected {_shown(wanted)}, got {_shown(got)}"


def _same(wanted: object, got: object) -> bool:
    """Whether two plain values are the same; 1 is 1.0, and true is not 1."""
    if isinstance(wanted, bool) or isinstance(got, bool):
        return wanted is got
    if isinstance(wanted, int | float) and isinstance(got, int | float):
        return math.isclose(wanted, got, rel_tol=_CLOSE)
    return wanted == got


def _shown(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
