"""Questions about the policy: may somebody do something, and if so or if not, why."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from mesh.conditions import why_not
from mesh.errors import InvalidError
from mesh.identity import Caller
from mesh.policy import PLATFORM, Policy, Rule, ancestors
from mesh.resource import tenant_of
from security.permissions import PermissionBook

__all__ = ["Access", "Explanation", "Query", "RuleSeen"]

_MAX_NEAR = 10


@dataclass(frozen=True, slots=True)
class Query:
    """May this principal do that, on this resource? The resource is empty for the tenant as a whole."""

    principal: str
    permission: str
    resource: str


@dataclass(frozen=True, slots=True)
class RuleSeen:
    """A binding as it bears on a question.

    Attributes:
        binding: its name.
        role: the role that it gives or denies.
        resource: on what.
        path: the groups through which it reaches the principal, the principal's own first.
        lacks: why it does not help; empty where it decides.
    """

    binding: str
    role: str
    resource: str
    path: tuple[str, ...]
    lacks: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """An answer with its reasons.

    Attributes:
        allowed: yes or no.
        reason: why, in a sentence.
        rule: the binding that decides; None where none does.
        near: where none does, those that come nearest, the nearest first.
        revision: of the policy.
    """

    allowed: bool
    reason: str
    rule: RuleSeen | None
    near: tuple[RuleSeen, ...]
    revision: int


class Access:
    """Answers by the newest policy.

    Args:
        policy: the policy as it is now.
        book: knows the permissions that exist.
    """

    def __init__(self, policy: Callable[[], Awaitable[Policy]], book: PermissionBook) -> None:
        self._policy = policy
        self._book = book

    async def check(self, tenant: str, queries: Sequence[Query], caller: Caller) -> tuple[list[bool], int]:
        """Whether each is allowed, and the policy's revision.

        Raises:
            InvalidError: there is no such permission, or the principal is not one that the tenant may ask about.
        """
        policy = await self._policy()
        for query in queries:
            self._check_query(query, tenant, caller)
        answers = [
            policy.decide(q.principal, "", q.permission, q.resource or f"{PLATFORM}/{tenant}", tenant).allowed
            for q in queries
        ]
        return answers, policy.revision

    async def test(self, caller: Caller, resource: str, permissions: Sequence[str]) -> tuple[list[str], int]:
        """Which permissions the caller has itself, and the policy's revision.

        Raises:
            InvalidError: there is no such permission.
        """
        for permission in permissions:
            self._book.check(permission, "permissions")
        policy, place = await self._policy(), resource or f"{PLATFORM}/{caller.tenant}"
        has = [p for p in permissions if policy.decide(caller.subject, caller.role, p, place, caller.tenant).allowed]
        return has, policy.revision

    async def explain(self, tenant: str, query: Query, caller: Caller) -> Explanation:
        """Whether it is allowed, by what, and if not what comes nearest.

        Raises:
            InvalidError: as for `check`.
        """
        self._check_query(query, tenant, caller)
        policy, now = await self._policy(), time.time()
        resource = query.resource or f"{PLATFORM}/{tenant}"
        decision = policy.decide(query.principal, "", query.permission, resource, tenant, now)
        target = policy.target(query.permission, resource, tenant)
        seen = _Seen(policy, query, target, now)
        if decision.rule:
            rule = seen.named(decision.rule)
            how = "allowed" if decision.allowed else "denied"
            return Explanation(
                decision.allowed, f"{how} by {_told(rule) if rule else decision.rule}", rule, (), policy.revision
            )
        if policy.standing(query.principal, "", query.permission, tenant) or target is None:
            return Explanation(allowed=False, reason=decision.by, rule=None, near=(), revision=policy.revision)
        near = seen.near()
        reason = f"nothing allows it; nearest: {_told(near[0])}, {near[0].lacks}" if near else "no binding reaches it"
        return Explanation(allowed=False, reason=reason, rule=None, near=near, revision=policy.revision)

    def _check_query(self, query: Query, tenant: str, caller: Caller) -> None:
        """Refuse questions about principals of whom the tenant must not know, and about what does not exist."""
        self._book.check(query.permission, "query.permission")
        known = {tenant, tenant_of(caller.subject)}
        if tenant_of(query.principal) not in known or query.principal.split("/")[2:3] != ["principals"]:
            raise InvalidError(
                "query.principal", f"must be a principal of {PLATFORM}/{tenant}", principal=query.principal
            )


@dataclass(frozen=True, slots=True)
class _Seen:
    """The bindings that reach a principal, as they bear on a question."""

    policy: Policy
    query: Query
    target: str | None
    now: float

    def named(self, name: str) -> RuleSeen | None:
        """The one of that name."""
        for member, path in self.policy.reach(self.query.principal):
            for deny in (True, False):
                for rule in self.policy.rules(member, deny=deny):
                    if rule.binding.name == name:
                        return _seen(rule, path, "")
        return None

    def near(self) -> tuple[RuleSeen, ...]:
        """Those that allow something, the nearest first."""
        found = []
        for member, path in self.policy.reach(self.query.principal):
            for rule in self.policy.rules(member, deny=False):
                lacks = self._lacks(rule)
                found.append((len(lacks), len(path), rule.binding.name, _seen(rule, path, " and ".join(lacks))))
        found.sort(key=lambda each: each[:3])
        return tuple(each[3] for each in found[:_MAX_NEAR])

    def _lacks(self, rule: Rule) -> list[str]:
        """Everything that keeps a binding from allowing it."""
        binding, target = rule.binding, self.target or ""
        lacks = []
        if binding.resource not in ancestors(target):
            lacks.append(f"which is on {binding.resource}, not on {target}")
        elif not target.startswith(rule.prefix):
            lacks.append(f"which is on names that begin with {rule.prefix}")
        if self.query.permission not in rule.permissions:
            lacks.append(f"whose role lacks {self.query.permission}")
        ended = why_not(binding, self.now)
        if ended:
            lacks.append(f"which {ended}")
        return lacks


def _seen(rule: Rule, path: tuple[str, ...], lacks: str) -> RuleSeen:
    binding = rule.binding
    return RuleSeen(binding.name, binding.role, binding.resource, path, lacks)


def _told(rule: RuleSeen) -> str:
    """A binding in words: role, where, and by which groups."""
    by = f" through {' in '.join(rule.path)}" if rule.path else ""
    return f"{rule.binding} ({rule.role} on {rule.resource}{by})"
