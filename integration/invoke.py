"""One operation of a connection: its input mapped, carried out as often as it takes, its answer mapped.

This is the only layer that tries again. A system that wants to be left alone is left alone: the call waits its turn,
and where the caller would not wait for so long it is told when to come back.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from integration.connections import Connection, ConnectionRules, Operation
from integration.effects import EffectLog
from integration.errors import (
    DeliveryDeferredError,
    IntegrationError,
    OperationUnknownError,
    OutcomeUnknownError,
    RateLimitedError,
)
from integration.pacing import Pacer
from integration.ports import Answer, Connector, Effect, Target
from integration.vault import Vault
from mesh.entries import Entry
from mesh.resource import tenant_of
from mesh.sandbox import SandboxPool

__all__ = ["Invocation", "Invoker"]

_TRIES_END_S = 10.0
"""No attempt after a failure begins later than so long after the first."""
_PATIENCE_S = 110.0
"""How long callers wait who do not say; the mesh gives a call without a deadline two minutes."""
_ANSWERING_S = 0.5
"""What is left of the caller's time for the answer to arrive."""
_MAX_PAGES = 1000


@dataclass(frozen=True, slots=True)
class Invocation:
    """What came of an operation: its output, whether it had happened before, how many attempts were made."""

    output: Any
    replayed: bool
    attempts: int


@dataclass(frozen=True, slots=True)
class _Work:
    """One operation on its way.

    Attributes:
        connector: carries it out.
        target: the system.
        entry: the connection.
        operation: which.
        value: its input, mapped.
        effect: what must not happen twice; None for nothing, or where nobody has named it.
        named: whether the caller has named the effect, and may name the next try otherwise.
        repeatable: whether it may be asked for twice.
        deadline: when the caller is gone, on the loop's clock.
    """

    connector: Connector
    target: Target
    entry: Entry[Connection]
    operation: Operation
    value: Any
    effect: Effect | None
    named: bool
    repeatable: bool
    deadline: float


class Invoker:
    """Carries out operations.

    Args:
        rules: knows the connectors.
        vault: opens credentials.
        sandbox: runs jq programs.
        pacer: lets calls pass in their time.
        effects: remembers effects for systems that do not.
        jitter: a number from 0 to 1, different each time.
    """

    def __init__(
        self,
        rules: ConnectionRules,
        vault: Vault,
        sandbox: SandboxPool,
        pacer: Pacer,
        effects: EffectLog,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._rules = rules
        self._vault = vault
        self._sandbox = sandbox
        self._pacer = pacer
        self._effects = effects
        self._jitter = jitter

    def target(self, entry: Entry[Connection]) -> Target:
        """The system that a connection leads to."""
        credentials = self._vault.open(tenant_of(entry.name), entry.name, entry.body.sealed)
        return Target(entry.name, entry.revision, entry.body.config, credentials, entry.uid)

    async def test(self, entry: Entry[Connection]) -> str:
        """Reach for the system; returns what was found."""
        return await self._rules.connector(entry.body.connector).test(self.target(entry))

    async def invoke(
        self,
        entry: Entry[Connection],
        operation_id: str,
        value: Any,  # noqa: ANN401 -- any JSON
        effect_key: str,
        patience_s: float | None = None,
    ) -> Invocation:
        """Carry out an operation.

        Args:
            entry: the connection.
            operation_id: which operation.
            value: what the caller sends, any JSON.
            effect_key: names the effect; empty for none.
            patience_s: how long the caller waits; None where it does not say.

        Raises:
            OperationUnknownError: the connection has no such operation.
            RateLimitedError: the system takes no more calls for longer than the caller waits.
            OutcomeUnknownError: it may have happened, and must not happen twice.
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
        deadline = asyncio.get_running_loop().time() + (_PATIENCE_S if patience_s is None else patience_s)
        work = self._work(entry, operation, value, effect_key, deadline - _ANSWERING_S)
        kept = bool(effect_key) and work.effect is not None and not work.connector.keeps_effects
        answer, attempts = await (self._once(work) if kept else self._pieces(work))
        output = answer.output
        if operation.output:
            output = await self._sandbox.jq(operation.output, output, owner=owner)
        return Invocation(output, answer.replayed, attempts)

    def _work(self, entry: Entry[Connection], operation: Operation, value: Any, key: str, deadline: float) -> _Work:  # noqa: ANN401
        connector = self._rules.connector(entry.body.connector)
        what = "IDEMPOTENT" if connector.deduplicates else operation.effect
        named = bool(key)
        if not key and what == "IDEMPOTENT" and not connector.keeps_effects:
            key = uuid.uuid4().hex  # the attempts of this call belong together, even if nobody else knows
        effect = _effect(entry, operation, value, key) if what != "NONE" else None
        repeatable = what == "NONE" or (effect is not None and (what == "IDEMPOTENT" or connector.keeps_effects))
        return _Work(connector, self.target(entry), entry, operation, value, effect, named, repeatable, deadline)

    async def _once(self, work: _Work) -> tuple[Answer, int]:
        """Carry out what must not happen twice; zero attempts where it has happened before."""
        assert work.effect is not None  # noqa: S101 -- the caller has looked
        attempts = 0

        async def ask() -> Answer:
            nonlocal attempts
            answer, attempts = await self._pieces(work)
            return answer

        return await self._effects.once(work.effect, ask, repeatable=work.repeatable), attempts

    async def _pieces(self, work: _Work) -> tuple[Answer, int]:
        """Every piece of an answer; the last one holds it all."""
        answer, attempts = await self._attempts(work, None)
        for _ in range(_MAX_PAGES):
            if answer.resume is None:
                break
            answer, more = await self._attempts(work, answer.resume)
            attempts += more - 1
        return answer, attempts

    async def _attempts(self, work: _Work, resume: object) -> tuple[Answer, int]:
        """Try until it works, or until trying again cannot help; pauses grow, with full jitter."""
        loop = asyncio.get_running_loop()
        retry = work.entry.body.retry
        last_begin = min(loop.time() + _TRIES_END_S, work.deadline)
        pause_s = retry.initial_backoff_s
        attempt = failures = 0
        in_doubt = False
        while True:
            attempt += 1
            try:
                return await self._attempt(work, resume), attempt
            except IntegrationError as error:
                in_doubt = in_doubt or not error.outcome_known
                wait_s = pause_s * self._jitter()
                if isinstance(error, RateLimitedError) and error.said_by_system:
                    wait_s = await self._held_off(work, error, pause_s)
                else:
                    failures += 1
                    again = error.may_pass and (error.outcome_known or work.repeatable)
                    if not again or failures >= retry.max_attempts or loop.time() + wait_s > last_begin:
                        raise _final(error, work, attempt, in_doubt=in_doubt) from None
                await asyncio.sleep(wait_s)
                pause_s = min(pause_s * 2, retry.max_backoff_s)

    async def _attempt(self, work: _Work, resume: object) -> Answer:
        """One attempt, in its turn and within the caller's time."""
        loop = asyncio.get_running_loop()
        timeout_s = work.operation.timeout_s
        limits = work.connector.limits(work.target.config)
        async with self._pacer.turn(work.target, limits, max(0.0, work.deadline - loop.time() - timeout_s)):
            return await work.connector.call(
                work.target,
                work.operation.spec,
                work.value,
                effect=work.effect,
                timeout_s=max(0.001, min(timeout_s, work.deadline - loop.time())),
                repeatable=work.repeatable,
                resume=resume,
            )

    async def _held_off(self, work: _Work, error: RateLimitedError, pause_s: float) -> float:
        """Leave the system alone for as long as it says; returns how long this call waits besides.

        Raises:
            RateLimitedError: the caller would not wait for so long.
        """
        wait_s = pause_s if error.retry_after_s is None else max(error.retry_after_s, 0.0)
        await self._pacer.hold_off(work.target, wait_s)
        if asyncio.get_running_loop().time() + wait_s + work.operation.timeout_s > work.deadline:
            error.retry_after_s = wait_s
            error.said_by_system = False
            raise error
        return pause_s * self._jitter() if error.retry_after_s == 0 else 0.0


def _final(error: IntegrationError, work: _Work, attempts: int, *, in_doubt: bool) -> IntegrationError:
    """The error to end with: where something may have happened that must not happen twice, it says so.

    What may be repeated was, under the same key; whoever named that key may come again under another one.
    """
    error.metadata["attempts"] = str(attempts)
    error.outcome_known = error.outcome_known and not (in_doubt and error.may_pass)  # a refusal is an answer
    if work.connector.deduplicates and error.may_pass and error.retry_after_s is not None:
        deferred = DeliveryDeferredError(error.message, retry_after_s=error.retry_after_s)
        deferred.metadata, deferred.outcome_known = error.metadata | {"cause": error.reason}, error.outcome_known
        return deferred
    if error.outcome_known or (work.repeatable and not (work.named and work.effect is not None)):
        return error
    unknown = OutcomeUnknownError(
        f"`{work.operation.operation_id}` may have happened and is not tried again: {error.message}",
    )
    unknown.metadata = error.metadata | {"cause": error.reason}
    return unknown


def _effect(entry: Entry[Connection], operation: Operation, value: Any, key: str) -> Effect | None:  # noqa: ANN401 -- any JSON
    """What must not happen twice; None for calls that name no effect."""
    if not key:
        return None
    asked = msgspec.json.encode([operation.operation_id, value], order="deterministic")
    return Effect(f"{entry.name}|{key}", hashlib.sha256(asked).hexdigest())
