"""A home whose platform is a front door alone: real TLS and gRPC, agents in memory, everything that was asked noted."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import any_pb2, empty_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from tiation.orchestrator.v1 import agent_pb2, agent_pb2_grpc
from tiation.security.v1 import api_key_pb2, api_key_pb2_grpc, tenant_pb2, tenant_pb2_grpc, token_pb2, token_pb2_grpc

from cli.home import Home
from cli.main import main


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Tiation = Callable[..., Said]


@pytest.fixture
def tiation(monkeypatch, capsys) -> Tiation:
    """Runs the command in this process, as its entry point does."""

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["tiation", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Said(int(ended.value.code or 0), printed.out, printed.err)

    return run


@dataclass
class FrontDoor(
    agent_pb2_grpc.AgentServiceServicer,
    api_key_pb2_grpc.ApiKeyServiceServicer,
    tenant_pb2_grpc.TenantServiceServicer,
    token_pb2_grpc.TokenServiceServicer,
):
    """Answers as the platform does, as far as the command can tell."""

    home: Home
    agents: dict[str, agent_pb2.Agent] = field(default_factory=dict)
    tenants: dict[str, tenant_pb2.Tenant] = field(default_factory=dict)
    asked: list[tuple[str, str, object]] = field(default_factory=list)
    meanwhile: Callable[[agent_pb2.Agent], None] = lambda agent: None

    def _note(self, context, request) -> None:
        metadata = dict(context.invocation_metadata())
        self.asked.append((type(request).__name__, metadata.get("authorization", ""), request))

    def _missing(self, context, name: str) -> None:
        context.abort_with_status(refusal(grpc.StatusCode.NOT_FOUND, f"there is no {name}", "RESOURCE_NOT_FOUND"))

    def ExchangeApiKey(self, request, context):
        self._note(context, request)
        return token_pb2.AccessToken(token=f"exchanged-for-{request.parent}")

    def GetAgent(self, request, context):
        self._note(context, request)
        if request.name not in self.agents:
            self._missing(context, request.name)
        read = agent_pb2.Agent()
        read.CopyFrom(self.agents[request.name])
        self.meanwhile(self.agents[request.name])
        return read

    def CreateAgent(self, request, context):
        self._note(context, request)
        if "broken" in request.agent.flow:
            context.abort_with_status(
                refusal(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "two things are wrong with the flow",
                    "FLOW_INVALID",
                    {"flow.do": "has no steps", "flow.document.dsl": "is unknown"},
                )
            )
        made = agent_pb2.Agent()
        made.CopyFrom(request.agent)
        made.name, made.etag = f"{request.parent}/agents/{request.agent_id}", "etag-1"
        self.agents[made.name] = made
        return made

    def UpdateAgent(self, request, context):
        self._note(context, request)
        made = self.agents[request.agent.name]
        if request.agent.etag != made.etag:
            context.abort_with_status(refusal(grpc.StatusCode.ABORTED, "somebody was faster", "ETAG_STALE"))
        made.flow, made.etag = request.agent.flow, f"{made.etag}+"
        return made

    def DeleteAgent(self, request, context):
        self._note(context, request)
        if self.agents.pop(request.name, None) is None:
            self._missing(context, request.name)
        return empty_pb2.Empty()

    def ListAgents(self, request, context):
        """Two a page, to have pages."""
        self._note(context, request)
        names = sorted(name for name in self.agents if name.startswith(f"{request.parent}/"))
        at = int(request.page_token or 0)
        more = str(at + 2) if at + 2 < len(names) else ""
        return agent_pb2.ListAgentsResponse(
            agents=[self.agents[name] for name in names[at : at + 2]], next_page_token=more
        )

    def CreateApiKey(self, request, context):
        self._note(context, request)
        name = f"{request.parent}/apiKeys/{request.api_key_id}"
        return api_key_pb2.ApiKey(name=name, principal=request.api_key.principal, key_string="tia_secret")

    def GetTenant(self, request, context):
        self._note(context, request)
        if request.name not in self.tenants:
            self._missing(context, request.name)
        return self.tenants[request.name]

    def ListTenants(self, request, context):
        self._note(context, request)
        return tenant_pb2.ListTenantsResponse(tenants=self.tenants.values())

    def CreateTenant(self, request, context):
        self._note(context, request)
        made = tenant_pb2.Tenant()
        made.CopyFrom(request.tenant)
        made.name = f"tenants/{request.tenant_id}"
        return self.tenants.setdefault(made.name, made)

    def UpdateTenant(self, request, context):
        self._note(context, request)
        self.tenants[request.tenant.name] = request.tenant
        return request.tenant

    def DeleteTenant(self, request, context):
        self._note(context, request)
        if self.tenants.pop(request.name, None) is None:
            self._missing(context, request.name)
        return empty_pb2.Empty()


def refusal(code: grpc.StatusCode, message: str, reason: str, violations: dict[str, str] | None = None):
    """A refusal with its details, as the mesh answers it."""
    details = [any_pb2.Any(), any_pb2.Any()]
    details[0].Pack(error_details_pb2.ErrorInfo(reason=reason, domain="tests"))
    bad = error_details_pb2.BadRequest()
    for name, description in (violations or {}).items():
        bad.field_violations.add(field=name, description=description)
    details[1].Pack(bad)
    return rpc_status.to_status(
        status_pb2.Status(code=code.value[0], message=message, details=details[: 2 if violations else 1])
    )


def certificate() -> tuple[bytes, bytes]:
    """A self-signed certificate for loopback, with its key; both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "front door")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return (
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        made.public_bytes(pem),
    )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home that was made and on which nothing runs."""
    made = Home(tmp_path / "home")
    made.make()
    return made


@contextmanager
def served(home: Home, *services: tuple[Callable[[object, grpc.Server], None], object]) -> Iterator[None]:
    """A front door that is open: services behind it, each with the function that adds it to a server."""
    key, chain = certificate()
    server = grpc.server(ThreadPoolExecutor(4))
    for add, service in services:
        add(service, server)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
    server.start()
    home.ca.write_bytes(chain)
    home.token_file.write_text("kept-token\n")
    home.operator_key.write_text("operator-key\n")
    home.gateway_file.write_text(json.dumps({"url": f"https://127.0.0.1:{port}", "services": {}}))
    holding = home.hold()
    yield
    os.close(holding)
    server.stop(None).wait()


@pytest.fixture
def door(home: Home) -> Iterator[FrontDoor]:
    """A front door that is open, with its home."""
    made = FrontDoor(home)
    with served(
        home,
        (agent_pb2_grpc.add_AgentServiceServicer_to_server, made),
        (api_key_pb2_grpc.add_ApiKeyServiceServicer_to_server, made),
        (tenant_pb2_grpc.add_TenantServiceServicer_to_server, made),
        (token_pb2_grpc.add_TokenServiceServicer_to_server, made),
    ):
        yield made
