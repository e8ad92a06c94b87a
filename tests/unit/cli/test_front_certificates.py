"""What the front door shows to clients: the platform's certificate for the names that are set, and one of one's own."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from cli.doctor.finding import BAD, GOOD, UNSURE
from cli.doctor.state import _own_certificate
from cli.gateway.own_certificate import OwnCertificateError, own_certificate
from cli.home import Home
from cli.supervisor.certificates import Certificates, front_hosts
from mesh.config import GatewaySettings, Settings, SettingsError, load_settings
from tests.fakes.certificates import company, pem_of

EC = ec.generate_private_key(ec.SECP256R1())
WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505 -- to be refused
OWN = company()


@dataclass
class Files:
    """A certificate and its key where settings name them."""

    home: Path

    def write(self, chain: str, key: str) -> GatewaySettings:
        (self.home / "front.crt").write_text(chain)
        (self.home / "front.key").write_text(key)
        return GatewaySettings(certificate="front.crt", key=str(self.home / "front.key"))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def shown(home: Home, name: str = "front") -> tuple[set[str], str]:
    """Names and addresses in a certificate as it lies for the proxy, and the certificate itself."""
    (secret,) = json.loads((home.path / "gateway" / f"sds-{name}.json").read_text())["resources"]
    text = base64.b64decode(secret["tls_certificate"]["certificate_chain"]["inline_bytes"])
    held = x509.load_pem_x509_certificate(text).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {
        *held.get_values_for_type(x509.DNSName),
        *map(str, held.get_values_for_type(x509.IPAddress)),
    }, text.decode()


def test_the_names_that_are_set_stand_in_the_certificate_and_a_change_of_them_makes_a_new_one(home: Home):
    Certificates(home, Settings())
    assert shown(home)[0] == {"localhost", "127.0.0.1"}
    names = ("Models.corp.example", "*.ml.example", "10.0.0.5", "fd00::2")
    Certificates(home, Settings(gateway=GatewaySettings(host="192.0.2.2", names=names)))
    held, first = shown(home)
    assert held == {
        "localhost", "127.0.0.1", "192.0.2.2", "models.corp.example", "*.ml.example", "10.0.0.5", "fd00::2"
    }  # fmt: skip
    Certificates(home, Settings(gateway=GatewaySettings(host="0.0.0.0")))  # noqa: S104 -- what is tested
    assert shown(home)[0] == {"localhost", "127.0.0.1"}
    assert shown(home)[1] != first


@pytest.mark.parametrize(
    "name", ["https://models.corp.example", "models.corp.example:8443", "a b", "", "10.0.0.300", "-a.b", "a..b", "ü.de"]
)
def test_a_name_that_is_none_is_refused_with_the_form(home: Home, name: str):
    (home.path / "tiation.yaml").write_text(json.dumps({"gateway": {"names": ["ok.example", name]}}))
    with pytest.raises(SettingsError) as caught:
        load_settings(home.path, {})
    assert f"gateway.names: `{name}` is neither a DNS name nor an IP address" in caught.value.message
    assert "models.corp.example" in caught.value.message


@pytest.mark.parametrize("host", ["vm", "localhost", "::", "10.0.0", "256.0.0.1", "models.corp.example", ""])
def test_a_host_that_is_no_address_is_refused_in_a_sentence_before_anything_starts(home: Home, host: str):
    (home.path / "tiation.yaml").write_text(json.dumps({"gateway": {"host": host}}))
    with pytest.raises(SettingsError) as caught:
        load_settings(home.path, {})
    assert caught.value.message.endswith(
        f"gateway.host is `{host}`; it must be an IPv4 address of this machine: 127.0.0.1 for programs on it alone, "
        "0.0.0.0 for everybody; the names by which clients call it go into gateway.names"
    )


def test_one_of_certificate_and_key_alone_is_refused(home: Home):
    for given, missing in (("certificate", "key"), ("key", "certificate")):
        with pytest.raises(SettingsError, match=rf"gateway\.{given} is set and gateway\.{missing} is not"):
            load_settings(home.path, {f"TIATION_GATEWAY__{given.upper()}": "x.pem"})


def test_a_variable_holds_several_names(home: Home):
    settings = load_settings(home.path, {"TIATION_GATEWAY__NAMES": "a.example, 10.0.0.5"})
    assert settings.gateway.names == ("a.example", "10.0.0.5")


@pytest.mark.parametrize(
    "key",
    [EC, ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)],
    ids=["P-256", "P-384", "RSA"],
)
def test_a_certificate_of_ones_own_lies_beside_the_platforms(home: Home, key):
    settings = Files(home.path).write(*OWN.issue(key, ["Models.corp.example", "*.apps.example"]))
    names = ("models.corp.example", "x.apps.example", "y.x.apps.example", "apps.example", "10.0.0.5")
    gateway = GatewaySettings(certificate=settings.certificate, key=settings.key, names=names)
    Certificates(home, Settings(gateway=gateway))
    assert shown(home, "own")[0] == {"Models.corp.example", "*.apps.example"}
    assert shown(home)[0] == {"localhost", "127.0.0.1", "y.x.apps.example", "apps.example", "10.0.0.5"}
    Certificates(home, Settings())
    assert not (home.path / "gateway" / "sds-own.json").exists()


def test_files_that_hold_more_than_they_must_give_the_chain_and_the_key(files: Files):
    chain, key = OWN.issue(EC, ["a.example"])
    found = own_certificate(files.home, files.write(f"bag: x\n{key}{chain}{OWN.pem}", f"{chain}{key}"))
    assert found is not None
    assert found.chain == chain + OWN.pem
    assert found.key == key


def other(chain: str, key: str) -> tuple[str, str]:
    return chain, pem_of(ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (OWN.issue(EC, ["a.example"], begin_h=-48, end_h=-24), r"gateway\.certificate: .* ended on 20..-..-..; renew"),
        (OWN.issue(EC, ["a.example"], begin_h=2), r"gateway\.certificate: .* begins on .* UTC; look at the clock"),
        (OWN.issue(EC, ["10.0.0.5"]), r"has no DNS name .*for addresses there is gateway\.names"),
        (OWN.issue(EC, []), "has no DNS name"),
        (OWN.issue(ed25519.Ed25519PrivateKey.generate(), ["a.example"]), "has a key that the front door cannot show"),
        (OWN.issue(WEAK, ["a.example"]), "RSA of at least 2048 bits"),
        (OWN.issue(EC, ["a.example"], passphrase="secret"), r"gateway\.key: .* is locked with a passphrase"),
        (other(*OWN.issue(EC, ["a.example"])), r"gateway\.key is not the key of the certificate at the top of"),
        (("", pem_of(EC)), r"gateway\.certificate: .* holds no certificates in PEM"),
        ((OWN.issue(EC, ["a.example"])[0], "no key"), r"gateway\.key: .* holds no private key in PEM"),
    ],
)
def test_what_cannot_be_shown_is_said_of_the_setting_and_the_file(files: Files, pair: tuple[str, str], said: str):
    with pytest.raises(OwnCertificateError, match=said) as caught:
        own_certificate(files.home, files.write(*pair))
    assert "secret" not in caught.value.message


def test_files_that_cannot_be_read_are_named(files: Files):
    settings = files.write(*OWN.issue(EC, ["a.example"]))
    (files.home / "front.key").unlink()
    with pytest.raises(OwnCertificateError, match=r"gateway\.key: .*front\.key cannot be read: No such file"):
        own_certificate(files.home, settings)
    (files.home / "front.crt").write_bytes(b"\x30\x82\xff")
    with pytest.raises(OwnCertificateError, match=r"gateway\.certificate: .*front\.crt is no PEM file"):
        own_certificate(files.home, settings)


def test_one_that_was_replaced_is_taken_up_and_one_that_does_not_fit_leaves_the_last(home: Home):
    gateway = Files(home.path).write(*OWN.issue(EC, ["a.example"]))
    made = Certificates(home, Settings(gateway=gateway))
    (home.path / "front.crt").write_text(OWN.issue(EC, ["b.example"])[0])
    made.renew()
    assert shown(home, "own")[0] == {"b.example"}
    (home.path / "front.crt").write_text("half of")
    ours = shown(home)[1]
    with pytest.raises(OwnCertificateError):
        made.renew()
    assert shown(home, "own")[0] == {"b.example"}
    assert shown(home)[1] != ours  # which must not end because of the other


def test_up_does_not_start_with_one_that_cannot_be_shown(tiation, home: Home, monkeypatch):
    monkeypatch.setenv("TIATION_GATEWAY__CERTIFICATE", "gone.crt")
    monkeypatch.setenv("TIATION_GATEWAY__KEY", "gone.key")
    said = tiation("up", "--home", str(home.path))
    assert said.code == 1
    assert f"gateway.certificate: {home.path / 'gone.crt'} cannot be read: No such file or directory" in said.err


def test_the_doctor_knows_when_one_ends(files: Files):
    def found(end_h: float) -> tuple[str, str]:
        gateway = files.write(*OWN.issue(EC, ["a.example"], begin_h=-48, end_h=end_h))
        (finding,) = _own_certificate(Home(files.home), Settings(gateway=gateway))
        return finding.state, finding.detail

    assert found(24 * 90 + 1) == (GOOD, "holds for 90 days, for a.example")
    assert found(24 * 10 + 1) == (UNSURE, "ends in 10 days")
    assert found(-24)[0] == BAD
    assert list(_own_certificate(Home(files.home), Settings())) == []


def test_hosts_come_once_each():
    gateway = GatewaySettings(names=("localhost", "a.example", "A.example", "127.0.0.1"))
    assert front_hosts(gateway, None) == ["localhost", "127.0.0.1", "a.example"]
