"""A platform's first hour: its authorities, keys and the operator's key, and every certificate issued at a start.

It works on the home directly, as the one who starts the platform does; services renew through the workload servicer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mesh.config import Settings
from mesh.identity import issuer_of
from mesh.svid import new_key, write_private
from security.api_keys import OPERATOR_KEY_ID, new_key_text
from security.authority import Authority, public_key_of
from security.signing import SigningKey

__all__ = ["OPERATOR_KEY", "bootstrap", "issue_front_certificate", "issue_svid", "mesh_authority", "signing_key"]

OPERATOR_KEY = "operator.key"
_SYSTEM = "system"


def mesh_authority(home: Path, settings: Settings) -> Authority:
    """The authority of the mesh: what services trust."""
    return Authority.open(home / "security" / "ca" / "mesh.pem", f"Tiation mesh {settings.trust_domain}")


def signing_key(home: Path, settings: Settings) -> SigningKey:
    """The key that signs access tokens."""
    return SigningKey.open(home / "security" / "token.pem", issuer_of(settings.trust_domain))


def bootstrap(home: Path, settings: Settings) -> None:
    """Make whatever a platform needs before its first service starts; what is there already stays.

    Afterwards there are `ca.pem` (what clients trust), `operator.key`, and `security/` with the authorities, the token
    key and `jwks.json`.
    """
    for folder in (home / "security", home / "security" / "ca"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    mesh_authority(home, settings)
    write_private(home / "ca.pem", _front_authority(home).bundle)
    write_private(home / "security" / "jwks.json", signing_key(home, settings).jwks)
    key = home / OPERATOR_KEY
    if not key.exists():
        write_private(key, f"{new_key_text(_SYSTEM, OPERATOR_KEY_ID)}\n")


def issue_svid(home: Path, settings: Settings, service: str) -> dict[str, str]:
    """A fresh key and certificate for a workload: certificate_chain, private_key, trust_bundle, all PEM."""
    authority = mesh_authority(home, settings)
    key, request = new_key()
    chain = authority.issue_svid(
        public_key_of(request),
        trust_domain=settings.trust_domain,
        service=service,
        ttl_s=settings.security.svid_ttl_s,
    )
    return _document(chain, key, authority)


def issue_front_certificate(home: Path, settings: Settings, hosts: Sequence[str]) -> dict[str, str]:
    """A fresh key and certificate for the front door, in the same form; clients trust it by `ca.pem`."""
    authority = _front_authority(home)
    key, request = new_key()
    chain = authority.issue_front(public_key_of(request), hosts=hosts, ttl_s=settings.security.svid_ttl_s)
    return _document(chain, key, authority)


def _front_authority(home: Path) -> Authority:
    """The authority of the front door: it vouches for no workload."""
    return Authority.open(home / "security" / "ca" / "front.pem", "Tiation front door")


def _document(chain: str, key: bytes, authority: Authority) -> dict[str, str]:
    return {"certificate_chain": chain, "private_key": key.decode(), "trust_bundle": authority.bundle}
