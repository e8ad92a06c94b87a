"""Whether every expression of a flow compiles; a mistake is said with its place in the flow's text."""

from __future__ import annotations

import asyncio
import re

from mesh.sandbox import JqSyntaxError, SandboxInputError, SandboxPool
from orchestrator.errors import FlowInvalidError
from orchestrator.flow.parse import parse_flow
from orchestrator.flow.steps import Flow, For, Try, walk
from orchestrator.flow.templates import VARIABLES, Expression

__all__ = ["FlowChecker"]

_PREFIX = re.compile(r"^jq program, line \d+, column \d+: ")
_MAX_NAMES = 16
_STRAY = (
    "`${` here would be kept as text: an expression is the whole value, from `${` to `}`; put a text together inside "
    'of it, as in `"${ \\"Pay \\(.id)?\\" }"`'
)


class FlowChecker:
    """Parses and checks flows.

    Args:
        sandbox: compiles jq programs.
    """

    def __init__(self, sandbox: SandboxPool) -> None:
        self._sandbox = sandbox

    async def check(self, text: str, *, agent_id: str, tenant: str) -> Flow:
        """The flow, if it can run.

        Raises:
            FlowInvalidError: it cannot; with line, column and JSON pointer.
        """
        flow, expressions = await asyncio.to_thread(parse_flow, text)  # a large one takes a second
        if flow.name != agent_id:
            message = f"is `{flow.name}`, but the agent is `{agent_id}`; they must be the same"
            line, column = flow.name_place
            raise FlowInvalidError(message, line=line, column=column, pointer="/document/name")
        own = _variables(flow)
        if len(own) > _MAX_NAMES:
            message = f"`catch` and `for` name {len(own)} variables; at most {_MAX_NAMES} are kept apart"
            raise FlowInvalidError(message, line=1, column=1)
        names = tuple(dict.fromkeys((*VARIABLES, *own)))
        for expression in expressions:
            await self._compile(expression, names, tenant)
        return flow

    async def _compile(self, expression: Expression, names: tuple[str, ...], tenant: str) -> None:
        if expression.stray:
            line, column = expression.place(1, 1)
            raise FlowInvalidError(_STRAY, line=line, column=column, pointer=expression.pointer)
        try:
            await self._sandbox.compile_jq(expression.program, names, owner=tenant)
        except JqSyntaxError as error:
            line, column = expression.place(error.line, error.column)
            message = f"jq: {_PREFIX.sub('', error.message)}"
        except SandboxInputError as error:
            line, column = expression.place(1, 1)
            message = f"jq: {error.message}"
        else:
            return
        raise FlowInvalidError(message, line=line, column=column, pointer=expression.pointer)


def _variables(flow: Flow) -> dict[str, None]:
    """The variables that the flow's own steps name."""
    found: dict[str, None] = {}
    for step in walk(flow.steps):
        if isinstance(step, Try):
            found[step.catch.error_as] = None
        elif isinstance(step, For):
            found |= {step.each: None, step.at: None}
    return found
