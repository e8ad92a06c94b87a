"""Asking a graph: its answer, and why it is that one.

The graph runs in the sandbox; what its trace says in words is `engine.decisions.explanation`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.decisions.errors import DecisionFailedError
from engine.decisions.explanation import Graph, Step, graph_of, steps_of
from engine.errors import ElementError
from mesh.errors import Code, TiationError
from mesh.sandbox import SandboxOutputTooLargeError, SandboxPool
from mesh.sandboxed.recent import Recent

__all__ = ["MAX_ANSWERS_BYTES", "Answer", "Evaluator"]

MAX_ANSWERS_BYTES = 16 << 20
"""All answers of one call, as JSON."""

_AT_ONCE = 4
"""Inputs of one batch that are evaluated together: the sandbox has two processes, and others ask too."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a graph answers.

    Attributes:
        result: the answer, a JSON object.
        steps: why; empty where the trace is too large.
        trace: what every node did, as zen-engine says it; None where nobody asked for it.
        size: bytes of the answer as JSON.
    """

    result: dict[str, Any]
    steps: tuple[Step, ...]
    trace: dict[str, Any] | None
    size: int


class Evaluator:
    """Asks one graph.

    Args:
        sandbox: where it runs.
        name: the decision's, for errors.
        graph: a JDM document.
        owner: the tenant whose it is.
        known: the nodes of graphs that were asked lately.
    """

    def __init__(self, sandbox: SandboxPool, name: str, graph: str, owner: str, known: Recent[Graph]) -> None:
        self._sandbox = sandbox
        self._name = name
        self._graph = graph.encode()
        self._owner = owner
        self._known = known

    @property
    def nodes(self) -> Graph:
        """The graph's nodes; it must have been evaluated or checked before."""
        digest = hashlib.sha256(self._graph).digest()
        nodes = self._known.get(digest)
        if nodes is None:
            nodes = graph_of(self._graph)
            self._known.put(digest, nodes, len(self._graph))
        return nodes

    async def check(self) -> None:
        """Check the graph without evaluating it.

        Raises:
            DecisionInvalidError, DecisionForbiddenNodeError: it is wrong, or may not run.
            SandboxError: it could not be checked.
        """
        await self._sandbox.validate_decision(self._graph, owner=self._owner)

    async def evaluate(self, facts: Any, *, traced: bool = False) -> Answer:  # noqa: ANN401 -- any JSON
        """The answer to some facts.

        Args:
            facts: any JSON.
            traced: true where the trace itself is wanted, and its being too large is an error.

        Raises:
            DecisionFailedError: it came to no object.
            SandboxError: it failed, or broke a limit.
        """
        try:
            decided = await self._sandbox.decide(self._graph, facts, trace=True, owner=self._owner)
        except SandboxOutputTooLargeError:
            if traced:
                raise
            decided = await self._sandbox.decide(self._graph, facts, owner=self._owner)
        if not isinstance(decided.result, dict):
            raise DecisionFailedError(f"{self._name} came to no object; let its output node give named values")
        trace = decided.trace if isinstance(decided.trace, dict) else None
        steps = steps_of(self.nodes, trace) if trace is not None else ()
        size = len(msgspec.json.encode(decided.result))
        return Answer(decided.result, tuple(steps), trace if traced else None, size)

    async def evaluate_all(self, inputs: Sequence[Any]) -> list[Answer]:
        """The answers to many, in their order; the first wrong one ends it.

        Raises:
            ElementError: naming the input that is wrong, and what is.
            SandboxError: the sandbox cannot be asked.
        """
        turn = asyncio.Semaphore(_AT_ONCE)
        size = 0

        async def one(at: int, facts: Any) -> Answer:  # noqa: ANN401 -- any JSON
            nonlocal size
            async with turn:
                try:
                    answer = await self.evaluate(facts)
                except TiationError as error:
                    if error.code not in (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION):
                        raise
                    raise ElementError("inputs", at, error.message) from error
            size += answer.size
            if size > MAX_ANSWERS_BYTES:
                raise ElementError("inputs", at, f"the answers are more than {MAX_ANSWERS_BYTES} bytes; ask for fewer")
            return answer

        tasks = [asyncio.ensure_future(one(at, facts)) for at, facts in enumerate(inputs)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
