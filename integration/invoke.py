"""One operation of a connection: its input mapped, carried out as often as it takes, its answer mapped.

This is the only layer that tries again.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from integration.connections import Connection, ConnectionRules, Operation, Retry
from integration.errors import IntegrationError, OperationUnknownError
from integration.ports import Answer, Connector, Effect, Target
from integration.vault import Vault
from mesh.entries import Entry
from mesh.resource import tenant_of
from mesh.sandbox import SandboxPool

__all__ = ["Invocation", "Invoker"]

_TRIES_END_S = 10.0
"""No attempt begins later than so long after the first."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """What came of an operation: its output, whether it had happened before, how many attempts were made."""

    output: Any
    replayed: bool
    attempts: int


class Invoker:
    """Carries out operations.

    Args:
        rules: knows the connectors.
        vault: opens credentials.
        sandbox: runs jq programs.
        jitter: a number from 0 to 1, different each time.
    """

    def __init__(
        self, rules: ConnectionRules, vault: Vault, sandbox: SandboxPool, jitter: Callable[[], float] = random.random
    ) -> None:
        self._rules = rules
        self._vault = vault
        self._sandbox = sandbox
        self._jitter = jitter

    def target(self, entry: Entry[Connection]) -> Target:
        """The system that a connection leads to."""
        credentials = self._vault.open(tenant_of(entry.name), entry.name, entry.body.sealed)
        return Target(entry.name, entry.revision, entry.body.config, credentials)

    async def test(self, entry: Entry[Connection]) -> str:
        """Reach for the system; returns what was found."""
        return await self._rules.connector(entry.body.connector).test(self.target(entry))

    async def invoke(self, entry: Entry[Connection], operation_id: str, value: Any, effect_key: str) -> Invocation:  # noqa: ANN401 -- any JSON
        """Carry out an operation.

        Args:
            entry: the connection.
            operation_id: which operation.
            value: what the caller sends, any JSON.
            effect_key: names the effect; empty for none.

        Raises:
            OperationUnknownError: the connection has no such operation.
            IntegrationError: the system refused, or did not answer in time, however often it was asked.
            SandboxError: a mapping failed.
        """
        operation = entry.body.operation(operation_id)
        if operation is None:
            known = ", ".join(each.operation_id for each in entry.body.operations) or "none"
            raise OperationUnknownError(
                f"{entry.name} has no operation `{operation_id}`; it has {known}", operation=operation_id
            )
        owner = tenant_of(entry.name)
        if operation.input:
            value = await self._sandbox.jq(operation.input, value, owner=owner)
        effect = _effect(entry, operation, value, effect_key)
        connector = self._rules.connector(entry.body.connector)
        answer, attempts = await self._attempts(
            connector, self.target(entry), operation, value, effect, entry.body.retry
        )
        output = answer.output
        if operation.output:
            output = await self._sandbox.jq(operation.output, output, owner=owner)
        return Invocation(output, answer.replayed, attempts)

    async def _attempts(
        self,
        connector: Connector,
        target: Target,
        operation: Operation,
        value: Any,  # noqa: ANN401 -- any JSON
        effect: Effect | None,
        retry: Retry,
    ) -> tuple[Answer, int]:
        """Try until it works, or until trying again cannot help; pauses grow, with full jitter."""
        loop = asyncio.get_running_loop()
        last_begin = loop.time() + _TRIES_END_S
        pause_s = retry.initial_backoff_s
        for attempt in range(1, retry.max_attempts + 1):
            try:
                answer = await connector.call(
                    target, operation.spec, value, effect=effect, timeout_s=operation.timeout_s
                )
            except IntegrationError as error:
                safe = error.outcome_known or effect is not None or operation.effect == "NONE"
                wait_s = pause_s * self._jitter()
                if not (error.may_pass and safe) or attempt == retry.max_attempts or loop.time() + wait_s > last_begin:
                    error.metadata["attempts"] = str(attempt)
                    raise
                await asyncio.sleep(wait_s)
                pause_s = min(pause_s * 2, retry.max_backoff_s)
            else:
                return answer, attempt
        raise AssertionError("at least one attempt was made")


def _effect(entry: Entry[Connection], operation: Operation, value: Any, key: str) -> Effect | None:  # noqa: ANN401 -- any JSON
    """What must not happen twice; None for operations that change nothing and calls that name no effect."""
    if not key or operation.effect == "NONE":
        return None
    asked = msgspec.json.encode([operation.operation_id, value], order="deterministic")
    return Effect(f"{entry.name}|{key}", hashlib.sha256(asked).hexdigest())
