"""What the policy consists of, as security sends it and services keep it: plain data, whole or as a change.

Deciding by it is `mesh.policy`'s; how it travels is `mesh.policy_messages`'.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "Account",
    "Binding",
    "Condition",
    "Delta",
    "Group",
    "Limits",
    "Quota",
    "Revocation",
    "Role",
    "Snapshot",
    "TimeWindow",
]


class Role(msgspec.Struct, frozen=True):
    """A named set of permissions; `*` stands for every service, resource or verb."""

    name: str
    permissions: tuple[str, ...]


class TimeWindow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of the day on some days of the week.

    Attributes:
        days: on which it begins, 1 for Monday to 7 for Sunday; empty means every day.
        start: `HH:MM`; empty means midnight.
        end: `HH:MM`, not after `start` means on the next day; empty means the day's end.
        time_zone: of the IANA database; empty means UTC.
    """

    days: tuple[int, ...] = ()
    start: str = ""
    end: str = ""
    time_zone: str = ""


class Condition(msgspec.Struct, frozen=True, omit_defaults=True):
    """What must be so for a binding to hold.

    Attributes:
        time_windows: only inside one of these; empty means at any time.
        resource_prefix: only resources whose name begins so; empty means every one.
    """

    time_windows: tuple[TimeWindow, ...] = ()
    resource_prefix: str = ""


class Binding(msgspec.Struct, frozen=True, omit_defaults=True):
    """A role on a resource and on all below it, given or denied.

    Attributes:
        name: its name.
        principal: who, where it allows a principal without any condition; empty otherwise, so that releases which know
            no groups, denials and conditions pass it over.
        role: which role.
        resource: on what.
        member: who, a principal or a group, where `principal` is empty.
        deny: true where it denies.
        start: from when on it holds, seconds since the epoch; 0 means always.
        expire: until when it holds, seconds since the epoch; 0 means for good.
        condition: when and where it holds besides; None means always.
    """

    name: str
    principal: str
    role: str
    resource: str
    member: str = ""
    deny: bool = False
    start: float = 0.0
    expire: float = 0.0
    condition: Condition | None = None

    @property
    def who(self) -> str:
        """The principal or group that it names."""
        return self.principal or self.member

    @property
    def lasts(self) -> bool:
        """Whether it holds always and everywhere below its resource, until it ends."""
        return not self.start and self.condition is None


class Group(msgspec.Struct, frozen=True):
    """Principals and groups that are given roles together."""

    name: str
    members: tuple[str, ...]


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much may be asked for; 0 means no limit, and for `burst` as many as in one second."""

    requests_per_second: int = 0
    burst: int = 0
    concurrent_calls: int = 0


class Account(msgspec.Struct, frozen=True, omit_defaults=True):
    """A principal that may act.

    Attributes:
        name: its name.
        uid: which one of those that ever had the name; empty where that is not known.
        revoked: tokens issued before are refused, seconds since the epoch.
        limits: how much it may ask for; None means what its tenant says.
    """

    name: str
    uid: str = ""
    revoked: float = 0.0
    limits: Limits | None = None


class Quota(msgspec.Struct, frozen=True, omit_defaults=True):
    """The limits of a tenant.

    Attributes:
        name: the tenant's name.
        total: for all its principals together; None means what the settings say.
        each: for each of them; None means what the settings say.
    """

    name: str
    total: Limits | None = None
    each: Limits | None = None


class Revocation(msgspec.Struct, frozen=True):
    """An API key that has ended while its tokens may not have: from when on they are refused; 0 means no longer."""

    uid: str
    at: float


class Snapshot(msgspec.Struct, frozen=True):
    """All that is needed to decide, or the part of it that has changed.

    Attributes:
        revision: grows with every change.
        jwks: the public keys of access tokens, a JSON Web Key Set.
        tenants: the tenants that exist, by name.
        roles: every role.
        bindings: every binding.
        principals: the principals that may act, by name.
        groups: every group.
        accounts: more about the same principals.
        quotas: the limits of the tenants that have some.
        revocations: API keys whose tokens have ended before their time.
    """

    revision: int
    jwks: str
    tenants: tuple[str, ...]
    roles: tuple[Role, ...]
    bindings: tuple[Binding, ...]
    principals: tuple[str, ...]
    groups: tuple[Group, ...] = ()
    accounts: tuple[Account, ...] = ()
    quotas: tuple[Quota, ...] = ()
    revocations: tuple[Revocation, ...] = ()

    def to_json(self) -> bytes:
        """As text, to be kept."""
        return msgspec.json.encode(self)

    @staticmethod
    def from_json(text: str | bytes) -> Snapshot:
        """From the kept text, of this release or an earlier one.

        Raises:
            ValueError: it is no snapshot.
        """
        return msgspec.json.decode(text, type=Snapshot)


class Delta(msgspec.Struct, frozen=True):
    """What turns one revision into a newer one.

    Attributes:
        base: the revision that it changes.
        changed: what is new or different; its revision is the new one.
        removed: what is gone, by name.
    """

    base: int
    changed: Snapshot
    removed: tuple[str, ...] = ()
