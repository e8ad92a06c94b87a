"""The rules between the directory's entries, asked in the transaction that changes one of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mesh.conditions import known_time_zone
from mesh.db import Transaction
from mesh.entries import Entry
from mesh.entry_store import EntryStore
from mesh.errors import InvalidError
from mesh.identity import SYSTEM_TENANT
from mesh.policy import PLATFORM
from mesh.resource import tenant_of
from mesh.snapshot import Binding as PolicyBinding
from security.entries import DENY, ApiKey, Binding, Group, Principal, Role, Tenant
from security.errors import BuiltInError, GrantTooLargeError, GroupCircleError, RoleInUseError
from security.grants import Grantor

__all__ = [
    "BUILT_IN",
    "MAX_MEMBERS",
    "MAX_NESTING",
    "World",
    "check_binding",
    "check_group",
    "check_group_going",
    "check_key",
    "check_principal",
    "check_role",
    "check_role_unused",
    "check_tenant",
    "check_unbinding",
]

BUILT_IN = frozenset(
    {
        "tenants/default",
        f"tenants/{SYSTEM_TENANT}",
        f"tenants/{SYSTEM_TENANT}/principals/operator",
        f"tenants/{SYSTEM_TENANT}/bindings/operator",
    }
)
"""Without these a platform could not be operated any more."""

MAX_NESTING = 8
"""How deep groups may nest."""

MAX_MEMBERS = 10_000
"""How many principals and groups may belong to one group."""

_OPERATOR = f"{PLATFORM}/{SYSTEM_TENANT}/principals/operator"


@dataclass(frozen=True, slots=True)
class World:
    """What a rule may look at: the directory as the transaction sees it, who changes it, and the time."""

    transaction: Transaction
    rows: EntryStore
    grantor: Grantor
    now: datetime

    def current(self, entry: Entry[Any]) -> Any:  # noqa: ANN401 -- the body of the entry's own kind
        """The entry's fields as they were; None where it is new."""
        found = self.rows.get(self.transaction, type(entry.body), entry.name)
        return found.body if found is not None else None

    def role(self, name: str) -> Role | None:
        """A role, by name."""
        found = self.rows.get(self.transaction, Role, name)
        return found.body if found is not None else None


def check_tenant(world: World, entry: Entry[Tenant]) -> None:
    """How much a tenant may ask for is the platform's to say, not its own."""
    before = world.current(entry) or Tenant()
    if (before.limits, before.principal_limits) == (entry.body.limits, entry.body.principal_limits):
        return
    if tenant_of(world.grantor.caller.subject) != SYSTEM_TENANT:
        raise GrantTooLargeError("a tenant's limits are set by the platform's own principals", resource=entry.name)


def check_key(world: World, entry: Entry[ApiKey]) -> None:
    """A key is for a principal that is there, and gives its maker nothing that they do not have."""
    body, tenant = entry.body, f"{PLATFORM}/{tenant_of(entry.name)}"
    _check_there(world, body.principal, tenant, Principal, "principal")
    if entry.revision == 1 and body.expire_time and body.expire_time <= world.now:
        raise InvalidError("api_key.expire_time", "must lie in the future")
    caller, before = world.grantor.caller, world.current(entry)
    longer = before is None or _later(body.expire_time, before.expire_time)
    if longer and (caller.subject != body.principal or caller.role):
        world.grantor.may_let(_reaching(world, body.principal, deny=False))


def check_principal(world: World, entry: Entry[Principal]) -> None:
    """Whoever enables a principal gives back what it may do."""
    if entry.name in BUILT_IN and entry.body.disabled:
        raise BuiltInError(entry.name, "disabled")
    before = world.current(entry)
    if before is not None and before.disabled and not entry.body.disabled:
        world.grantor.may_let(_reaching(world, entry.name, deny=False))


def check_role(world: World, entry: Entry[Role]) -> None:
    """A tenant's role holds nothing that its maker does not have on the whole tenant."""
    tenant, own_id = tenant_of(entry.name), entry.name.rsplit("/", 1)[1]
    if tenant == SYSTEM_TENANT:
        raise BuiltInError(entry.name, "created or changed; create the role in another tenant")
    if world.role(f"{PLATFORM}/{SYSTEM_TENANT}/roles/{own_id}") is not None:
        raise InvalidError("role_id", f"`{own_id}` is a role of the platform; choose another id")
    before = world.current(entry)
    was, now = set(before.permissions if before else ()), set(entry.body.permissions)
    given = now - was
    if was - now and any(binding.body.effect == DENY for binding in _bindings_of(world, entry.name)):
        given |= was - now  # what a denial no longer denies is given back
    world.grantor.may_give(sorted(given), f"{PLATFORM}/{tenant}")


def check_role_unused(world: World, entry: Entry[Role]) -> None:
    """A role goes only when nobody has it."""
    if tenant_of(entry.name) == SYSTEM_TENANT:
        raise BuiltInError(entry.name)
    names = [binding.name for binding in _bindings_of(world, entry.name)]
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise RoleInUseError(
            f"{entry.name} is bound by {', '.join(names[:5])}{more}; delete these first", role=entry.name
        )


def check_binding(world: World, entry: Entry[Binding]) -> None:
    """A binding names one who is there, a role that is there, and gives nothing that its maker does not have."""
    body, home = entry.body, f"{PLATFORM}/{tenant_of(entry.name)}"
    if bool(body.principal) == bool(body.group):
        raise InvalidError("binding.principal", "set exactly one of `principal` and `group`")
    if body.principal:
        _check_there(world, body.principal, home, Principal, "principal")
    else:
        _check_there(world, body.group, home, Group, "group")
    role = world.role(body.role)
    if role is None or tenant_of(body.role) not in (SYSTEM_TENANT, tenant_of(entry.name)):
        raise InvalidError("binding.role", f"there is no role {body.role}; list them with ListRoles")
    below = body.resource == home or body.resource.startswith(home + "/")
    if not below and not (body.resource == PLATFORM and tenant_of(entry.name) == SYSTEM_TENANT):
        raise InvalidError("binding.resource", f"must be {home} or lie below it")
    _check_times(body)
    if body.effect == DENY and body.principal == _OPERATOR:
        raise BuiltInError(_OPERATOR, "denied anything")
    if body.effect != DENY or entry.revision > 1:  # changing a denial may lift it
        expire = body.expire_time.timestamp() if body.expire_time and body.effect != DENY else 0.0
        world.grantor.may_give(role.permissions, body.resource, expire)


def check_unbinding(world: World, entry: Entry[Binding]) -> None:
    """Who lifts a denial must have what was denied; whoever it denies something cannot lift it."""
    role = world.role(entry.body.role)
    if entry.body.effect == DENY and role is not None:
        world.grantor.may_give(role.permissions, entry.body.resource)


def check_group(world: World, entry: Entry[Group]) -> None:
    """Members are there, groups nest in no circle, and whoever changes a group gives nothing that they do not have."""
    body, home = entry.body, f"{PLATFORM}/{tenant_of(entry.name)}"
    before = world.current(entry) or Group()
    came, went = set(body.members) - set(before.members), set(before.members) - set(body.members)
    if len(body.members) > MAX_MEMBERS:
        raise InvalidError("group.members", f"a group has at most {MAX_MEMBERS} members; let groups belong to groups")
    if _OPERATOR in came:
        raise BuiltInError(_OPERATOR, "put into a group")
    for member in sorted(came):
        kind = Group if member.split("/")[2:3] == ["groups"] else Principal
        _check_there(world, member, home, kind, "group.members")
    if any("/groups/" in member for member in came):
        _check_nesting(world, entry)
    if came:
        world.grantor.may_let(_reaching(world, entry.name, deny=False))
    if went:
        world.grantor.may_let(_reaching(world, entry.name, deny=True))


def check_group_going(world: World, entry: Entry[Group]) -> None:
    """Whoever deletes a group lifts what is denied to it."""
    world.grantor.may_let(_reaching(world, entry.name, deny=True))


def _later(one: datetime | None, other: datetime | None) -> bool:
    """Whether an end lies later than another; none is the latest."""
    return other is not None and (one is None or one > other)


def _reaching(world: World, who: str, *, deny: bool) -> list[PolicyBinding]:
    """The bindings that reach a principal or group, through groups too."""
    policy = world.grantor.policy
    return [rule.binding for member, _ in policy.reach(who) for rule in policy.rules(member, deny=deny)]


def _bindings_of(world: World, role: str) -> list[Entry[Binding]]:
    found = world.rows.in_tenant(world.transaction, Binding, tenant_of(role), role)
    return [binding for binding in found if binding.body.role == role]


def _check_there(world: World, name: str, home: str, kind: type[Principal | Group], field: str) -> None:
    if not name.startswith(home + "/") or world.rows.get(world.transaction, kind, name) is None:
        raise InvalidError(field, f"there is no {name} in {home}", name=name)


def _check_times(body: Binding) -> None:
    if body.start_time and body.expire_time and body.expire_time <= body.start_time:
        raise InvalidError("binding.expire_time", "must lie after start_time")
    for window in body.condition.time_windows if body.condition else ():
        if not known_time_zone(window.time_zone):
            raise InvalidError(
                "binding.condition.time_windows.time_zone",
                f"there is no time zone `{window.time_zone}`; write it as `Europe/Berlin`",
            )
    prefix = body.condition.resource_prefix if body.condition else ""
    if prefix and not prefix.startswith(body.resource):
        raise InvalidError("binding.condition.resource_prefix", f"must begin with {body.resource}")


def _check_nesting(world: World, entry: Entry[Group]) -> None:
    """Refuse a circle, and groups that nest too deep, above the entry and below it."""
    groups = {
        group.name: group.body.members
        for group in world.rows.in_tenant(world.transaction, Group, tenant_of(entry.name))
    }
    groups[entry.name] = entry.body.members
    above: dict[str, set[str]] = {}
    for name, members in groups.items():
        for member in members:
            above.setdefault(member, set()).add(name)
    down = _depth(entry.name, lambda name: [m for m in groups.get(name, ()) if m in groups], entry.name)
    up = _depth(entry.name, lambda name: sorted(above.get(name, ())), entry.name)
    if down + up + 1 > MAX_NESTING:
        raise GroupCircleError(f"{entry.name} would make groups nest more than {MAX_NESTING} deep", group=entry.name)


def _depth(start: str, further: Any, origin: str) -> int:  # noqa: ANN401 -- from a name to names
    """How many steps it is possible to go on from a group."""
    depth, here = 0, {start}
    while here:
        found: Iterable[str] = {name for each in here for name in further(each)}
        if origin in found:
            raise GroupCircleError(f"{origin} would contain itself", group=origin)
        here = set(found)
        depth += bool(here)
        if depth > MAX_NESTING:
            break
    return depth
