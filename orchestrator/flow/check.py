"""Whether every expression of a flow compiles; a mistake is said with its place in the flow's text."""

from __future__ import annotations

from mesh.sandbox import JqSyntaxError, SandboxPool
from orchestrator.errors import FlowInvalidError
from orchestrator.flow.parse import parse_flow
from orchestrator.flow.steps import Flow, Try, walk
from orchestrator.flow.templates import VARIABLES

__all__ = ["FlowChecker"]


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
        flow, expressions = parse_flow(text)
        if flow.name != agent_id:
            raise FlowInvalidError(
                f"document.name is `{flow.name}`, but the agent is `{agent_id}`; they must be the same",
                line=1,
                column=1,
                pointer="/document/name",
            )
        caught = [step.catch.error_as for step in walk(flow.steps) if isinstance(step, Try)]
        for expression in expressions:
            try:
                await self._sandbox.compile_jq(expression.program, (*VARIABLES, *dict.fromkeys(caught)), owner=tenant)
            except JqSyntaxError as error:
                line = expression.line + error.line - 1
                column = error.column + (expression.column - 1 if error.line == 1 else 0)
                message = error.message.split(": ", 1)[-1]
                raise FlowInvalidError(f"jq: {message}", line=line, column=column) from None
        return flow
