"""Tenants by the command: it acts on the platform itself, in no tenant, and names none but the one that is meant."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

FILE = """
name: acme
displayName: Acme Inc.
limits: {requestsPerSecond: 500, concurrentCalls: 100}
principalLimits: {}
"""


@pytest.fixture
def file(tmp_path) -> Path:
    """A tenant's file."""
    made = tmp_path / "acme.yaml"
    made.write_text(FILE)
    return made


def test_a_tenant_is_created_shown_listed_and_deleted(tiation, door):
    def run(*arguments: str):
        return tiation("tenants", *arguments, "--home", str(door.home.path))

    assert run("create", "acme", "--display-name", "Acme").out == "tenants/acme created\n"
    for name in ("acme", "tenants/acme"):
        assert "called: Acme\n" in run("get", name).out
    assert [line.split() for line in run("list").out.splitlines()][1:] == [["tenants/acme", "Acme"]]
    assert run("delete", "acme").out == "tenants/acme deleted\n"
    gone = run("get", "acme")
    assert (gone.code, gone.err) == (1, "tiation: there is no tenants/acme [RESOURCE_NOT_FOUND]\n")
    assert run("get", "tenants/acme/agents/x").code == 2


def test_whoever_looks_after_tenants_acts_on_the_platform_and_not_in_a_tenant(tiation, door):
    """A token of a tenant sees that tenant alone, and is not to be had of one that does not exist yet."""
    for arguments in (("create", "acme"), ("get", "acme"), ("list",), ("delete", "acme")):
        tiation("tenants", *arguments, "--home", str(door.home.path))
    exchanges = [asked for kind, _, asked in door.asked if kind == "ExchangeApiKeyRequest"]
    assert [asked.parent for asked in exchanges] == ["tenants/system"] * 4
    others = {token for kind, token, _ in door.asked if kind != "ExchangeApiKeyRequest"}
    assert others == {"Bearer exchanged-for-tenants/system"}
    assert tiation("tenants", "list", "--tenant", "acme", "--home", str(door.home.path)).code == 2


def test_what_a_file_says_of_limits_is_applied_and_shown(tiation, door, file):
    def apply():
        return tiation("tenants", "apply", str(file), "--home", str(door.home.path)).out

    assert apply() == "tenants/acme created\n"
    assert apply() == "tenants/acme unchanged\n"
    shown = tiation("tenants", "get", "acme", "--home", str(door.home.path)).out.splitlines()
    assert shown[2:] == ["limits: requestsPerSecond 500, concurrentCalls 100", "limits of each principal: none"]
    file.write_text(FILE.replace("principalLimits: {}", ""))
    assert apply() == "tenants/acme updated\n"
    sent = door.asked[-1][2]
    assert list(sent.update_mask.paths) == ["principal_limits"]
    found = json.loads(tiation("tenants", "list", "--home", str(door.home.path), "--output", "json").out)
    assert found[0]["limits"]["requestsPerSecond"] == 500
    assert "principalLimits" not in found[0]


def test_the_file_in_the_help_is_one(tiation, door, file):
    shown = tiation("tenants", "--help").out.split("each of its principals:\n\n")[1].split("\n\n")[0]
    file.write_text(dedent(shown))
    assert tiation("tenants", "apply", str(file), "--home", str(door.home.path)).out == "tenants/acme created\n"
    assert door.tenants["tenants/acme"].principal_limits.requests_per_second == 50
