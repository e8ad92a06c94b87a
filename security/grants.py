"""Nobody gives away what they do not have: what somebody may grant, on which resource, until when.

Only what somebody has always and everywhere below the resource can be given away: a right that holds at some hours, or
of which a part is denied, would come back whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from mesh.conditions import why_not
from mesh.identity import Caller
from mesh.permissions import covers, overlaps
from mesh.policy import PLATFORM, Policy, ancestors
from mesh.snapshot import Binding
from security.errors import GrantTooLargeError

__all__ = ["Grantor"]


@dataclass(frozen=True, slots=True)
class Grantor:
    """Somebody who changes who may do what.

    Attributes:
        caller: who.
        policy: what they have.
    """

    caller: Caller
    policy: Policy

    def may_give(self, patterns: Iterable[str], resource: str, expire: float = 0.0) -> None:
        """Let pass what the caller may give away.

        Args:
            patterns: permissions, with wildcards.
            resource: on what, and on all below it.
            expire: until when, seconds since the epoch; 0 means for good.

        Raises:
            GrantTooLargeError: the caller does not have one of them, not there, or not so long.
        """
        wanted = tuple(patterns)
        held, denied = self._held(resource, expire or inf), self._denied(resource)
        limit = self.policy.role(self.caller.role, self.caller.tenant) if self.caller.role else None
        for pattern in wanted:
            lacks = not any(covers(own, pattern) for own in held) or (limit is not None and pattern not in limit)
            if lacks or any(overlaps(rule, pattern) for rule in denied):
                raise GrantTooLargeError(
                    f"{self.caller.subject} may not give {pattern} on {resource}: only what one has oneself there, "
                    "without condition, can be given",
                    permission=pattern,
                    resource=resource,
                )

    def may_let(self, rules: Iterable[Binding]) -> None:
        """Let pass what makes bindings reach somebody whom they did not reach, or denials no longer reach.

        Raises:
            GrantTooLargeError: the caller does not have what one of them gives or denies.
        """
        now = time.time()
        for rule in rules:
            if not rule.expire or rule.expire > now:
                self.may_give(self.policy.patterns_of(rule.role), rule.resource, rule.expire)

    def _held(self, resource: str, expire: float) -> list[str]:
        """The patterns that the caller has on a resource and all below it, at least so long."""
        above, now = set(ancestors(resource)), time.time()
        return [
            pattern
            for member, _ in self.policy.reach(self.caller.subject)
            for rule in self.policy.rules(member, deny=False)
            if rule.binding.resource in above and rule.binding.condition is None and not why_not(rule.binding, now)
            if (rule.binding.expire or inf) >= expire
            for pattern in rule.permissions.patterns
        ]

    def _denied(self, resource: str) -> list[str]:
        """The patterns that the caller is, or will be, denied on a resource, above it or below it."""
        above, below, now = set(ancestors(resource)), resource + "/", time.time()
        return [
            pattern
            for member, _ in self.policy.reach(self.caller.subject)
            for rule in self.policy.rules(member, deny=True)
            if rule.binding.resource in above or rule.binding.resource.startswith(below) or resource == PLATFORM
            if not rule.binding.expire or rule.binding.expire > now
            for pattern in rule.permissions.patterns
        ]
