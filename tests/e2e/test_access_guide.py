"""The guide to access as a reader follows it, command by command; and what the limits answer through the gateway."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import grpc
from tiation.security.v1 import tenant_pb2, tenant_pb2_grpc

from tests.fakes.installed import CLONE, Installed

GUIDE = (CLONE / "docs" / "access.md").read_text()


def follow(here: Installed, folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a piece of the guide in a shell, in the home of the platform."""
    environment = {
        **os.environ,
        "TIATION_HOME": str(here.home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True, text=True, timeout=120, check=False, cwd=folder, env=environment,
    )  # fmt: skip


def test_every_command_of_the_guide_does_what_it_says(home_of_all: Installed, tmp_path: Path):
    pieces = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
    assert len(pieces) == 11
    said = []
    for piece in pieces:
        ran = follow(home_of_all, tmp_path, piece)
        assert ran.returncode == 0, f"{piece}\n{ran.stdout}{ran.stderr}"
        said.append(ran.stdout)
    assert (tmp_path / "ada.key").read_text().startswith("tia_default_ada-laptop_")
    assert (tmp_path / "ada.key").stat().st_mode & 0o077 == 0
    assert "tia_default_" not in "".join(said)
    assert any(re.search(r"^tenants/acme +Acme Inc\.$", text, re.MULTILINE) for text in said)
    explained = next(text for text in said if "by revision" in text).splitlines()
    assert explained[0].startswith("allowed by tenants/default/bindings/ada-runs")
    assert explained[2].startswith("denied by tenants/default/bindings/freeze")
    assert "in tenants/default/groups/support" in explained[2]
    assert explained[4] == "allowed"
    listed = next(text for text in said if text.count("tenants/default/bindings/on-call"))
    assert "2100-01-31T00:00:00Z" in listed
    again = follow(home_of_all, tmp_path, "tiation bindings apply on-call.yaml; tiation principals apply importer.yaml")
    assert again.stdout.count("unchanged") == 2, again.stdout + again.stderr
    gone = follow(home_of_all, tmp_path, "tiation tenants apply acme.yaml")
    assert "RESOURCE_NAME_USED" in gone.stderr


def test_a_key_gives_a_token_that_its_limits_hold_back_with_429_and_a_time(home_of_all: Installed, tmp_path: Path):
    script = """
    tiation principals create busy && tiation bindings create busy --principal busy --role viewer
    printf 'name: busy\\nlimits: {requestsPerSecond: 2, burst: 2}\\n' > busy.yaml && tiation principals apply busy.yaml
    tiation keys create busy --principal busy --out busy.key
    """
    ran = follow(home_of_all, tmp_path, script)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    key = (tmp_path / "busy.key").read_text().strip()
    with home_of_all.rest("") as client:
        token = client.post("/v1/tenants/default/tokens:exchange", json={"apiKey": key}).json()["token"]
    deadline = time.monotonic() + 10
    with home_of_all.rest(token) as client:
        while (answer := client.get("/v1/tenants/default")).status_code != 429:
            assert time.monotonic() < deadline, answer.text
        assert answer.headers["retry-after"] == "1"
        body = answer.json()
        assert body["code"] == 8
        assert [detail["@type"].rsplit(".", 1)[1] for detail in body["details"]] == [
            "ErrorInfo", "QuotaFailure", "RetryInfo",
        ]  # fmt: skip
        assert body["details"][0]["reason"] == "RATE_LIMITED"
    with home_of_all.channel(token) as channel:
        stub, code = tenant_pb2_grpc.TenantServiceStub(channel), None
        while code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            assert time.monotonic() < deadline
            try:
                stub.GetTenant(tenant_pb2.GetTenantRequest(name="tenants/default"))
            except grpc.RpcError as error:
                code = error.code()
    while "RATE_LIMITED" not in home_of_all.command("records", "list", "--outcome", "RESOURCE_EXHAUSTED").stdout:
        assert time.monotonic() < deadline + 10
