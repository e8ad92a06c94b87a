"""The compiled policy against a slow and simple one that is read off the rules: groups, denials, times, changes."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from mesh.policy import Policy
from mesh.snapshot import Account, Binding, Condition, Delta, Group, Revocation, Role, Snapshot

HOME = "tenants/acme"
PRINCIPALS = tuple(f"{HOME}/principals/p{number}" for number in range(3))
GROUPS = tuple(f"{HOME}/groups/g{number}" for number in range(4))
ROLES = (
    Role("tenants/system/roles/all", ("*",)),
    Role("tenants/system/roles/reader", ("*.*.get", "engine.models.list")),
    Role(f"{HOME}/roles/models", ("engine.models.*",)),
    Role(f"{HOME}/roles/nothing", ()),
)
PERMISSIONS = ("engine.models.get", "engine.models.push", "engine.models.list", "orchestrator.runs.get")
PLACES = (HOME, f"{HOME}/models", f"{HOME}/models/m", f"{HOME}/models/mx", f"{HOME}/models/m/versions/1")

bindings = st.builds(
    lambda number, who, role, place, deny, start, expire, prefix: Binding(
        f"{HOME}/bindings/b{number}", "", role.name, place, who, deny, start, expire,
        Condition(resource_prefix=prefix) if prefix else None,
    ),
    st.integers(0, 11),
    st.sampled_from(PRINCIPALS + GROUPS),
    st.sampled_from(ROLES),
    st.sampled_from(PLACES),
    st.booleans(),
    st.sampled_from([0.0, 0.0, 10.0, 20.0]),
    st.sampled_from([0.0, 0.0, 15.0, 30.0]),
    st.sampled_from(["", "", f"{HOME}/models/m"]),
)  # fmt: skip
memberships = st.dictionaries(
    st.sampled_from(GROUPS), st.sets(st.sampled_from(PRINCIPALS + GROUPS), max_size=4), max_size=4
)


def snapshot(rules, members, revision: int = 1) -> Snapshot:
    """All of it; of two bindings of one name the last one counts. A group contains only groups of lower numbers."""
    named = {rule.name: rule for rule in rules}
    groups = [
        Group(name, tuple(sorted(m for m in inside if m in PRINCIPALS or m < name))) for name, inside in members.items()
    ]
    return Snapshot(
        revision, "{}", (HOME,), ROLES, tuple(named.values()), PRINCIPALS, tuple(groups),
        tuple(Account(name, f"uid-{name}") for name in PRINCIPALS),
    )  # fmt: skip


def simply(world: Snapshot, who: str, permission: str, resource: str, now: float) -> bool:
    """What the rules say, found by looking at every one of them."""
    mine = {who}
    while True:
        more = {group.name for group in world.groups if mine & set(group.members)} - mine
        if not more:
            break
        mine |= more
    roles = {role.name: role.permissions for role in world.roles}

    def means(pattern: str) -> bool:
        parts = pattern.split(".")
        return pattern == "*" or all(p in ("*", q) for p, q in zip(parts, permission.split("."), strict=True))

    bearing = [
        rule
        for rule in world.bindings
        if rule.who in mine
        and (resource + "/").startswith(rule.resource + "/")
        and any(map(means, roles[rule.role]))
        and rule.start <= now < (rule.expire or inf)
        and (rule.condition is None or resource.startswith(rule.condition.resource_prefix))
    ]
    return bool(bearing) and not any(rule.deny for rule in bearing)


@given(
    rules=st.lists(bindings, max_size=12),
    members=memberships,
    times=st.lists(st.sampled_from([0.0, 9.9, 10.0, 14.9, 15.0, 20.0, 25.0, 30.0, 99.0]), min_size=1, max_size=4),
)
def test_it_decides_like_the_simple_one_at_every_time(rules, members, times):
    world = snapshot(rules, members)
    policy = Policy(world)
    for now in sorted(times):  # the same policy throughout: what it remembers must not outlive a boundary
        for who in PRINCIPALS:
            for permission in PERMISSIONS:
                for place in PLACES:
                    found = policy.decide(who, "", permission, place, "acme", now).allowed
                    assert found is simply(world, who, permission, place, now), (who, permission, place, now)


@given(
    before=st.tuples(st.lists(bindings, max_size=8), memberships),
    after=st.tuples(st.lists(bindings, max_size=8), memberships),
)
def test_a_policy_that_followed_a_change_decides_like_one_made_anew(before, after):
    old, new = snapshot(*before), snapshot(*after, revision=2)
    policy = Policy(old)
    for who in PRINCIPALS:
        policy.decide(who, "", PERMISSIONS[0], HOME, "acme", 12.0)
    gone = {each.name for each in (*old.bindings, *old.groups)} - {each.name for each in (*new.bindings, *new.groups)}
    policy.apply(Delta(1, new, tuple(gone)))
    fresh = Policy(new)
    for who in PRINCIPALS:
        for permission in PERMISSIONS:
            for place in PLACES:
                question = (who, "", permission, place, "acme", 12.0)
                assert policy.decide(*question).allowed is fresh.decide(*question).allowed
    assert Policy(policy.snapshot()).snapshot() == policy.snapshot()
    assert set(policy.snapshot().bindings) == set(new.bindings)
    assert set(policy.snapshot().groups) == set(new.groups)


def test_a_role_that_changes_changes_what_is_bound_already():
    rule = Binding("b", PRINCIPALS[0], f"{HOME}/roles/models", HOME)
    policy = Policy(snapshot([rule], {}))
    assert policy.decide(PRINCIPALS[0], "", "engine.models.push", HOME, "acme").allowed
    changed = Snapshot(2, "", (), (Role(f"{HOME}/roles/models", ("engine.models.get",)),), (), ())
    policy.apply(Delta(1, changed))
    assert not policy.decide(PRINCIPALS[0], "", "engine.models.push", HOME, "acme").allowed
    assert policy.decide(PRINCIPALS[0], "", "engine.models.get", HOME, "acme").allowed


def test_tokens_are_refused_by_key_by_principal_and_by_time():
    policy = Policy(snapshot([], {}))
    who = PRINCIPALS[0]
    policy.apply(
        Delta(
            1,
            Snapshot(2, "", (), (), (), (), accounts=(Account(who, "u", 100.0),), revocations=(Revocation("k", 50.0),)),
        )
    )
    assert policy.token_refusal(who, "u", "", 101.0, 200.0) == ""
    assert policy.token_refusal(who, "", "", inf, 200.0) == ""
    assert "revoked" in policy.token_refusal(who, "u", "", 100.0, 200.0)
    assert "deleted" in policy.token_refusal(who, "other", "", 101.0, 200.0)
    assert "API key" in policy.token_refusal(who, "u", "k", 101.0, 200.0)
    assert policy.token_refusal(who, "u", "k", 101.0, 49.0) == ""
    policy.apply(Delta(2, Snapshot(3, "", (), (), (), (), revocations=(Revocation("k", 0.0),))))
    assert policy.token_refusal(who, "u", "k", 101.0, 200.0) == ""
