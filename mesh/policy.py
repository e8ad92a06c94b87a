"""The decision: may this principal do that, on this resource? Compiled from a snapshot, decided in memory.

A principal may do what a role allows that is bound to it, or to a group that it belongs to, on the resource or on
anything above it, unless a binding denies it there. How policies reach a service lives in `mesh.policy_holder`; how
they are made is security's; what they consist of is `mesh.snapshot`'s.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from mesh.conditions import Holds, holds_when
from mesh.identity import SYSTEM_TENANT
from mesh.permissions import Permissions
from mesh.resource import tenant_of
from mesh.snapshot import Account, Binding, Delta, Group, Limits, Quota, Revocation, Role, Snapshot

__all__ = ["PLATFORM", "Decision", "Policy", "Reach", "Rule", "ancestors", "is_shared"]

PLATFORM = "tenants"
"""The resource above every tenant."""

TOKEN_LIFE_S = 3600.0
"""The longest that a token lives: what was revoked longer ago needs not be remembered."""

_SHARED_KINDS = frozenset({"engine.models", "engine.decisions", "security.roles"})
_SHARED_VERBS = frozenset({"get", "list", "infer", "decide"})
_MAX_KEPT = 20_000
_MAX_DEPTH = 16
"""A guard only: security lets groups nest half as deep."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Yes or no, and by what: the binding that allowed or denied it, or why none did.

    Attributes:
        allowed: yes or no.
        by: a binding's name, or the reason.
        until: when it may change by itself, seconds since the epoch.
        rule: the binding that decided; empty where none did.
    """

    allowed: bool
    by: str
    until: float = inf
    rule: str = ""


class Rule(NamedTuple):
    """A compiled binding: itself, what its role allows, when it holds, the prefix that the resource must have."""

    binding: Binding
    permissions: Permissions
    holds: Holds | None
    prefix: str


class Reach(NamedTuple):
    """A principal, or a group that it belongs to, and the groups through which it does, its own first."""

    member: str
    path: tuple[str, ...]


_Rules = dict[str, tuple[Rule, ...]]
"""By resource. Replaced, never changed, so that other threads may read while a policy is applied."""


def is_shared(permission: str) -> bool:
    """Whether what ships with the platform (`tenants/system`) may be used so from every tenant."""
    kind, _, verb = permission.rpartition(".")
    return kind in _SHARED_KINDS and verb in _SHARED_VERBS


def ancestors(resource: str) -> list[str]:
    """A resource and everything above it, the nearest first."""
    found = [resource]
    while (cut := resource.rfind("/")) >= 0:
        resource = resource[:cut]
        found.append(resource)
    return found


class Policy:
    """A policy, compiled; it follows deltas.

    Args:
        snapshot: what to decide by.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.revision = 0
        self.jwks = ""
        self._tenants: set[str] = set()
        self._accounts: dict[str, Account] = {}
        self._roles: dict[str, Permissions] = {}
        self._groups: dict[str, Group] = {}
        self._quotas: dict[str, Quota] = {}
        self._revoked: dict[str, float] = {}
        self._bindings: dict[str, Binding] = {}
        self._groups_of: dict[str, frozenset[str]] = {}
        self._allows: dict[str, _Rules] = {}
        self._denies: dict[str, _Rules] = {}
        self._reach: dict[str, tuple[Reach, ...]] = {}
        self._decided: dict[tuple[str, str, str, str, str], Decision] = {}
        self.apply(Delta(0, snapshot))

    def apply(self, delta: Delta) -> None:
        """Become the newer revision."""
        changed = delta.changed
        for name in delta.removed:
            self._remove(name)
        self._tenants.update(changed.tenants)
        self._accounts.update((name, Account(name)) for name in changed.principals)
        self._accounts.update((account.name, account) for account in changed.accounts)
        self._quotas.update((quota.name, quota) for quota in changed.quotas)
        touched = {role.name for role in changed.roles} if self._bindings else set()
        self._roles.update((role.name, Permissions(role.permissions)) for role in changed.roles)
        for group in changed.groups:
            self._put_group(group)
        self._put_bindings(changed.bindings, fresh=not self._bindings)
        if touched:
            self._put_bindings([b for b in self._bindings.values() if b.role in touched], fresh=False)
        self._revoked.update((key.uid, key.at) for key in changed.revocations)
        if len(self._revoked) > len(changed.revocations):
            self._forget(time.time() - 2 * TOKEN_LIFE_S)
        self.revision = changed.revision
        self.jwks = changed.jwks or self.jwks
        self._reach.clear()
        self._decided.clear()

    def snapshot(self) -> Snapshot:
        """The whole policy as plain data."""
        return Snapshot(
            revision=self.revision,
            jwks=self.jwks,
            tenants=tuple(sorted(self._tenants)),
            roles=tuple(Role(name, role.patterns) for name, role in self._roles.items()),
            bindings=tuple(self._bindings.values()),
            principals=tuple(self._accounts),
            groups=tuple(self._groups.values()),
            accounts=tuple(self._accounts.values()),
            quotas=tuple(self._quotas.values()),
            revocations=tuple(Revocation(uid, at) for uid, at in self._revoked.items()),
        )

    def decide(
        self, subject: str, role: str, permission: str, resource: str, tenant: str, now: float | None = None
    ) -> Decision:
        """May the subject do this?

        Args:
            subject: `tenants/{tenant}/principals/{principal}`.
            role: at most what this role allows, by its id; empty for no such limit.
            permission: `service.resource.verb`.
            resource: a name, or `tenants` for the platform as a whole.
            tenant: the tenant that the subject acts in.
            now: seconds since the epoch; None for the present.
        """
        key = (subject, role, permission, resource, tenant)
        moment = time.time() if now is None else now
        decision = self._decided.get(key)
        if decision is None or moment >= decision.until:
            if len(self._decided) >= _MAX_KEPT:
                self._decided.clear()
            decision = self._decided[key] = self._decide(*key, moment)
        return decision

    def token_refusal(self, subject: str, uid: str, key: str, issued: float, now: float) -> str:
        """Why a token or a service's word for a principal no longer holds; empty where it does.

        Args:
            subject: the principal.
            uid: which one of that name it was given for; empty where it does not say.
            key: uid of the API key that it was exchanged for; empty where there is none.
            issued: when, seconds since the epoch; `inf` where that does not matter.
            now: seconds since the epoch.
        """
        at = self._revoked.get(key) if key else None
        if at and now >= at:
            return "the API key of this access token was deleted or has expired"
        account = self._accounts.get(subject)
        if account is None:
            return ""  # the decision says so
        if uid and account.uid and uid != account.uid:
            return "the principal of this access token was deleted; another one has its name now"
        if account.revoked and issued <= account.revoked:
            return "the principal's access tokens were revoked"
        return ""

    def limits_of(self, subject: str, tenant: str) -> tuple[Limits | None, Limits | None]:
        """What a principal may ask for, and what its tenant may in all; None for what the settings say."""
        account = self._accounts.get(subject)
        quota = self._quotas.get(f"{PLATFORM}/{tenant}") if self._quotas else None
        own = account.limits if account is not None else None
        if quota is None:
            return own, None
        return own if own is not None else quota.each, quota.total

    def reach(self, subject: str) -> tuple[Reach, ...]:
        """The principal itself and every group that it belongs to, through others too."""
        known = self._reach.get(subject)
        if known is None:
            if len(self._reach) >= _MAX_KEPT:
                self._reach.clear()
            known = self._reach[subject] = self._reaching(subject)
        return known

    def rules(self, member: str, *, deny: bool) -> Iterator[Rule]:
        """The bindings that name a principal or group, nothing else that reaches it."""
        for rules in (self._denies if deny else self._allows).get(member, {}).values():
            yield from rules

    def holds(self, subject: str, role: str, resource: str) -> bool:
        """Whether a role is bound to the subject, or to a group of its, on a resource or above it.

        Args:
            subject: the principal's name.
            role: the role's full name; the platform's own role of the same id counts as well.
            resource: the resource's name.
        """
        if subject not in self._accounts:
            return False
        roles = (role, f"{PLATFORM}/{SYSTEM_TENANT}/roles/{role.rsplit('/', 1)[-1]}")
        above, now = ancestors(resource), time.time()
        return any(
            rule.binding.role in roles
            and rule.binding.resource in above
            and resource.startswith(rule.prefix)
            and (rule.holds is None or rule.holds(now)[0])
            for member, _ in self.reach(subject)
            for rule in self.rules(member, deny=False)
        )

    def patterns_of(self, role: str) -> tuple[str, ...]:
        """What a role allows, by its name; nothing where there is none."""
        found = self._roles.get(role)
        return found.patterns if found is not None else ()

    def role(self, role: str, tenant: str) -> Permissions:
        """The role of that id as a tenant sees it: its own, else the platform's; one that allows nothing if neither."""
        for owner in (tenant, SYSTEM_TENANT):
            permissions = self._roles.get(f"{PLATFORM}/{owner}/roles/{role}")
            if permissions is not None:
                return permissions
        return Permissions(())

    def standing(self, subject: str, role: str, permission: str, tenant: str) -> str:
        """Why the subject may do nothing of the kind in the tenant, whatever is bound; empty where it may."""
        if subject not in self._accounts:
            return "principal unknown or disabled"
        if f"{PLATFORM}/{tenant}" not in self._tenants:
            return "tenant unknown"
        if tenant_of(subject) not in (tenant, SYSTEM_TENANT):
            return "another tenant's principal"
        if role and permission not in self.role(role, tenant):
            return f"outside the token's role {role}"
        return ""

    @staticmethod
    def target(permission: str, resource: str, tenant: str) -> str | None:
        """The resource on which bindings are looked for; None where the resource is another tenant's."""
        owner = tenant_of(resource)
        if owner == SYSTEM_TENANT != tenant and is_shared(permission):
            return f"{PLATFORM}/{tenant}"  # who may do so at home may do so with what is shared
        return resource if owner == tenant or resource == PLATFORM else None

    def _decide(self, subject: str, role: str, permission: str, resource: str, tenant: str, now: float) -> Decision:
        refused = self.standing(subject, role, permission, tenant)
        if refused:
            return Decision(allowed=False, by=refused)
        target = self.target(permission, resource, tenant)
        if target is None:
            return Decision(allowed=False, by="another tenant's resource")
        reach, above = self.reach(subject), ancestors(target)
        rule, until = _first(self._denies, reach, above, permission, now)
        if rule is not None:
            name = rule.binding.name
            return Decision(allowed=False, by=f"denied by {name}", until=until, rule=name)
        rule, change = _first(self._allows, reach, above, permission, now)
        until = min(until, change)
        if rule is not None:
            return Decision(allowed=True, by=rule.binding.name, until=until, rule=rule.binding.name)
        return Decision(allowed=False, by="no binding", until=until)

    def _reaching(self, subject: str) -> tuple[Reach, ...]:
        found = {subject: Reach(subject, ())}
        newest = [found[subject]]
        for _ in range(_MAX_DEPTH):
            further = [
                Reach(group, (*path, group))
                for member, path in newest
                for group in sorted(self._groups_of.get(member, ()))
                if group not in found
            ]
            if not further:
                break
            newest = list({each.member: each for each in reversed(further)}.values())
            found.update((each.member, each) for each in newest)
        return tuple(found.values())

    def _remove(self, name: str) -> None:
        """Take out whatever has that name."""
        binding = self._bindings.pop(name, None)
        if binding is not None:
            self._drop_rule(binding)
        group = self._groups.pop(name, None)
        for member in group.members if group is not None else ():
            self._groups_of[member] = self._groups_of[member] - {name}
        self._tenants.discard(name)
        for table in (self._accounts, self._roles, self._quotas):
            table.pop(name, None)

    def _put_group(self, group: Group) -> None:
        before = self._groups.get(group.name)
        was, now = frozenset(before.members if before else ()), frozenset(group.members)
        self._groups[group.name] = group
        for member in was - now:
            self._groups_of[member] = self._groups_of[member] - {group.name}
        for member in now - was:
            self._groups_of[member] = self._groups_of.get(member, frozenset()) | {group.name}

    def _put_bindings(self, bindings: Iterable[Binding], *, fresh: bool) -> None:
        """Take in bindings; `fresh` where none of them can be there already."""
        for binding in bindings:
            if not fresh and binding.name in self._bindings:
                self._drop_rule(self._bindings[binding.name])
            self._bindings[binding.name] = binding
            permissions = self._roles.get(binding.role)
            if permissions is None:
                continue
            prefix = binding.condition.resource_prefix if binding.condition is not None else ""
            rule = Rule(binding, permissions, holds_when(binding), prefix)
            table = self._denies if binding.deny else self._allows
            rules = table.setdefault(binding.who, {})
            here = (*rules.get(binding.resource, ()), rule)
            if fresh:
                rules[binding.resource] = here
            else:
                table[binding.who] = {**rules, binding.resource: here}

    def _drop_rule(self, binding: Binding) -> None:
        table = self._denies if binding.deny else self._allows
        rules = dict(table.get(binding.who, {}))
        left = tuple(rule for rule in rules.pop(binding.resource, ()) if rule.binding.name != binding.name)
        if left:
            rules[binding.resource] = left
        if rules:
            table[binding.who] = rules
        else:
            table.pop(binding.who, None)

    def _forget(self, before: float) -> None:
        """Forget what was revoked so long ago that no token is left of it."""
        self._revoked = {uid: at for uid, at in self._revoked.items() if at > before}


def _first(
    table: Mapping[str, _Rules], reach: Iterable[Reach], above: list[str], permission: str, now: float
) -> tuple[Rule | None, float]:
    """The first rule that bears on a permission on a resource (the first of `above`), and when that may change."""
    until, target = inf, above[0]
    for member, _ in reach:
        rules = table.get(member)
        if rules is None:
            continue
        for place in above:
            for rule in rules.get(place, ()):
                if permission not in rule.permissions or not target.startswith(rule.prefix):
                    continue
                if rule.holds is not None:
                    holding, change = rule.holds(now)
                    until = min(until, change)
                    if not holding:
                        continue
                return rule, until
    return None, until
