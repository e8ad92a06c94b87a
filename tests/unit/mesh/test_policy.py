"""The decision: roles on ancestors, wildcards, limits of a token, tenants kept apart, the platform above them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.policy import PLATFORM, Policy
from mesh.snapshot import Binding, Role, Snapshot

ADA = "tenants/acme/principals/ada"
BOB = "tenants/acme/principals/bob"
OPERATOR = "tenants/system/principals/operator"
GONE = "tenants/acme/principals/gone"


def policy(*bindings: tuple[str, str, str]) -> Policy:
    """A policy with the built-in forms of roles and these bindings: principal, role, resource."""
    roles = {
        "admin": ("*",),
        "viewer": ("*.*.get", "*.*.list"),
        "runner": ("orchestrator.runs.*",),
        "thinker": ("engine.models.infer",),
    }
    return Policy(
        Snapshot(
            revision=7,
            jwks="{}",
            tenants=("tenants/acme", "tenants/other", "tenants/system"),
            roles=tuple(Role(f"tenants/system/roles/{name}", allowed) for name, allowed in roles.items()),
            bindings=tuple(
                Binding(f"b{number}", principal, f"tenants/system/roles/{role}", resource)
                for number, (principal, role, resource) in enumerate(bindings)
            ),
            principals=(ADA, BOB, OPERATOR),
        )
    )


@pytest.mark.parametrize(
    ("role", "bound_on", "permission", "resource", "allowed"),
    [
        ("admin", "tenants/acme", "orchestrator.agents.delete", "tenants/acme/agents/a", True),
        ("admin", "tenants/acme", "security.tenants.create", PLATFORM, False),
        ("admin", PLATFORM, "security.tenants.create", PLATFORM, True),
        ("admin", "tenants/acme", "orchestrator.agents.get", "tenants/other/agents/a", False),
        ("viewer", "tenants/acme", "orchestrator.agents.get", "tenants/acme/agents/a", True),
        ("viewer", "tenants/acme", "orchestrator.agents.delete", "tenants/acme/agents/a", False),
        ("runner", "tenants/acme/agents/a", "orchestrator.runs.create", "tenants/acme/agents/a", True),
        ("runner", "tenants/acme/agents/a", "orchestrator.runs.get", "tenants/acme/agents/a/runs/r", True),
        ("runner", "tenants/acme/agents/a", "orchestrator.runs.get", "tenants/acme/agents/ab/runs/r", False),
        ("runner", "tenants/acme/agents/a", "orchestrator.runs.get", "tenants/acme", False),
        ("thinker", "tenants/acme", "engine.models.infer", "tenants/system/models/m", True),
        ("thinker", "tenants/acme", "engine.models.delete", "tenants/system/models/m", False),
        ("admin", "tenants/acme", "engine.models.delete", "tenants/system/models/m", False),
        ("admin", "tenants/acme", "security.principals.get", "tenants/system/principals/operator", False),
        ("viewer", "tenants/acme", "engine.models.infer", "tenants/system/models/m", False),
    ],
)
def test_what_a_binding_allows(role, bound_on, permission, resource, allowed):
    decision = policy((ADA, role, bound_on)).decide(ADA, "", permission, resource, "acme")
    assert decision.allowed is allowed
    assert (decision.by == "b0") is allowed


def test_a_token_never_allows_more_than_its_role_nor_than_its_principal():
    made = policy((ADA, "admin", "tenants/acme"), (BOB, "viewer", "tenants/acme"))
    assert made.decide(ADA, "viewer", "orchestrator.agents.get", "tenants/acme/agents/a", "acme").allowed
    assert not made.decide(ADA, "viewer", "orchestrator.agents.delete", "tenants/acme/agents/a", "acme").allowed
    assert not made.decide(BOB, "admin", "orchestrator.agents.delete", "tenants/acme/agents/a", "acme").allowed
    assert not made.decide(ADA, "no-such-role", "orchestrator.agents.get", "tenants/acme/agents/a", "acme").allowed


def test_principals_that_are_gone_disabled_or_of_another_tenant_may_do_nothing():
    made = policy((GONE, "admin", "tenants/acme"), (ADA, "admin", "tenants/other"), (OPERATOR, "admin", PLATFORM))
    assert not made.decide(GONE, "", "engine.models.get", "tenants/acme/models/m", "acme").allowed
    assert not made.decide(ADA, "", "engine.models.get", "tenants/other/models/m", "other").allowed
    assert made.decide(OPERATOR, "", "engine.models.get", "tenants/acme/models/m", "acme").allowed
    assert not made.decide(OPERATOR, "", "engine.models.get", "tenants/nowhere/models/m", "nowhere").allowed


segments = st.lists(st.sampled_from(["agents", "runs", "a", "ab", "models"]), max_size=4)


@given(bound=segments, asked=segments)
def test_a_binding_reaches_exactly_what_lies_below_it(bound, asked):
    made = policy((ADA, "admin", "/".join(["tenants/acme", *bound])))
    decision = made.decide(ADA, "", "x.y.z", "/".join(["tenants/acme", *asked]), "acme")
    assert decision.allowed is (asked[: len(bound)] == bound)


def test_a_snapshot_survives_as_text():
    snapshot = Snapshot(3, "{}", ("tenants/a",), (Role("r", ("*",)),), (Binding("b", "p", "r", "tenants/a"),), ("p",))
    assert Snapshot.from_json(snapshot.to_json()) == snapshot


def test_ten_thousand_decisions_stay_far_below_fifty_microseconds_each():
    made = policy(*((ADA, "runner", f"tenants/acme/agents/a{number}") for number in range(100)))
    started = time.process_time()  # the machine may be shared
    for number in range(10_000):
        made.decide(ADA, "", "orchestrator.runs.get", f"tenants/acme/agents/a{number % 2000}/runs/r{number}", "acme")
    assert (time.process_time() - started) / 10_000 < 50e-6
