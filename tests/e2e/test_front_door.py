"""The front door as programs on other machines see it: by names and addresses, with its certificate or one's own."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.fakes.certificates import company
from tests.fakes.installed import Installed, installed

NAMED = "models.corp.example"
OWN = "ml.corp.example"
TRITON = """
import sys
import numpy as np
import tritonclient.grpc as grpc, tritonclient.http as http
from tritonclient.http import InferInput as HttpInput
address, ca, token = sys.argv[1:]
headers = {"authorization": f"Bearer {token}"}
text = np.array([b"How do I reset my password?"], np.object_)
asked = grpc.InferInput("text", [1], "BYTES")
asked.set_data_from_numpy(text)
client = grpc.InferenceServerClient(address, ssl=True, root_certificates=ca)
assert client.is_server_live(headers=headers)
print(client.infer("all-minilm-l6-v2", [asked], headers=headers).as_numpy("embedding").shape)
import gevent.ssl
client = http.InferenceServerClient(
    address, ssl=True, ssl_options={"ca_certs": ca},
    ssl_context_factory=lambda **_: gevent.ssl.create_default_context(cafile=ca))
asked = HttpInput("text", [1], "BYTES")
asked.set_data_from_numpy(text)
print(client.infer("all-minilm-l6-v2", [asked], headers=headers).as_numpy("embedding").shape)
"""


def own_address() -> str:
    """An address of this machine that others could call it by; one of loopback's where it has none."""
    found = [
        each.address
        for addresses in psutil.net_if_addrs().values()
        for each in addresses
        if each.family is socket.AF_INET and not each.address.startswith("127.")
    ]
    return found[0] if found else "127.0.0.2"


@dataclass
class Door:
    """A platform that listens everywhere, with names set, and a certificate of a company's besides."""

    here: Installed
    address: str
    company: Path

    @property
    def port(self) -> str:
        return self.here.address.rpartition(":")[2]

    @property
    def ca(self) -> Path:
        return self.here.home / "ca.pem"

    def curl(self, name: str, ca: Path, at: str) -> subprocess.CompletedProcess[str]:
        """Ask for the health by a name or address, led to one address of this machine."""
        resolve = [] if name == at else ["--resolve", f"{name}:{self.port}:{at}"]
        return subprocess.run(
            ["curl", "-sS", "--cacert", str(ca), *resolve, f"https://{name}:{self.port}/v2/health/live",
             "-o", "/dev/null", "-w", "%{http_code}"],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def door(tmp_path_factory) -> Iterator[Door]:
    folder, address, own = tmp_path_factory.mktemp("door"), own_address(), company()
    chain, key = own.issue(ec.generate_private_key(ec.SECP256R1()), [OWN, "*.apps.example"])
    for name, text in (("front.crt", chain), ("front.key", key), ("company.pem", own.pem)):
        (folder / name).write_text(text)
    with installed(
        folder / "home",
        TIATION_GATEWAY__HOST="0.0.0.0",  # noqa: S104 -- what is tested
        TIATION_GATEWAY__NAMES=f"{NAMED},{OWN},{address}",
        TIATION_GATEWAY__CERTIFICATE=str(folder / "front.crt"),
        TIATION_GATEWAY__KEY=str(folder / "front.key"),
    ) as made:
        yield Door(made, address, folder / "company.pem")


def test_curl_reaches_it_by_a_name_and_an_address_that_are_set(door: Door):
    for name, at in ((NAMED, door.address), (NAMED.upper(), "127.0.0.1"), (door.address, door.address)):
        asked = door.curl(name, door.ca, at)
        assert (asked.returncode, asked.stdout) == (0, "200"), asked.stderr


def test_a_name_that_is_not_set_is_not_vouched_for(door: Door):
    asked = door.curl("other.corp.example", door.ca, door.address)
    assert asked.returncode == 60
    assert "no alternative certificate subject name matches" in asked.stderr


def test_tritonclient_works_over_the_machines_own_address_and_by_grpc_and_rest(door: Door):
    ran = subprocess.run(
        [sys.executable, "-c", TRITON, f"{door.address}:{door.port}", str(door.ca), door.here.token()],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.stdout == "(1, 384)\n(1, 384)\n", ran.stderr


def test_ones_own_certificate_is_shown_for_its_names_and_the_platforms_for_all_others(door: Door):
    for name in (OWN, "digits.apps.example"):
        assert door.curl(name, door.company, door.address).stdout == "200"
        assert door.curl(name, door.ca, door.address).returncode == 60
    assert door.curl(NAMED, door.company, door.address).returncode == 60
    door.here.command("status")  # the command goes by loopback and the platform's own


def test_old_clients_that_name_no_host_get_the_platforms(door: Door):
    context = ssl.create_default_context(cafile=str(door.ca))
    context.check_hostname = False
    with (
        socket.create_connection((door.address, int(door.port))) as opened,
        context.wrap_socket(opened, server_hostname=None) as secured,
    ):
        shown = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", NAMED]
