"""A certificate of the operator's own for the front door: read from its two files and looked at before it is shown.

The platform's own, which stays beside it for loopback and for names that this one lacks, is `cli.supervisor`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes

from mesh.config import GatewaySettings
from mesh.errors import Code, TiationError

__all__ = ["OwnCertificate", "OwnCertificateError", "own_certificate"]

_LEAST_RSA_BITS = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


class OwnCertificateError(TiationError):
    """The operator's certificate or its key cannot be shown to clients."""

    code = Code.INVALID_ARGUMENT
    reason = "CERTIFICATE_UNUSABLE"


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """A certificate that clients may be shown.

    Attributes:
        chain: PEM, leaf first.
        key: PEM.
        names: the DNS names in it, lower case, `*.corp.example` among them.
        end: of its life.
    """

    chain: str
    key: str
    names: tuple[str, ...]
    end: datetime

    @property
    def document(self) -> dict[str, str]:
        """In the form in which the front proxy's certificates are written."""
        return {"certificate_chain": self.chain, "private_key": self.key}

    def covers(self, name: str) -> bool:
        """Whether a client that asks for the name is shown this one; a `*` stands for one label (RFC 6125, 6.4.3)."""
        _, dot, parent = name.lower().partition(".")
        return name.lower() in self.names or (bool(dot) and f"*.{parent}" in self.names)


def own_certificate(home: Path, gateway: GatewaySettings) -> OwnCertificate | None:
    """What `gateway.certificate` and `gateway.key` name; None where they name nothing.

    Args:
        home: the platform's; a path that does not begin with `/` begins there.
        gateway: the settings of the front door.

    Raises:
        OwnCertificateError: a file cannot be read or used, the two do not belong together, or it has ended.
    """
    if not gateway.certificate:
        return None
    path = home / gateway.certificate
    chain = _chain(path, _text("gateway.certificate", path))
    key = _private_key(home / gateway.key, _text("gateway.key", home / gateway.key))
    leaf = chain[0]
    _check_pair(path, leaf.public_key(), key)
    _check_life(path, leaf)
    return OwnCertificate(
        chain="".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in chain),
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        names=_names(path, leaf),
        end=leaf.not_valid_after_utc,
    )


def _text(setting: str, path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        raise OwnCertificateError(f"{setting}: {path} is no PEM file, which is text") from None
    except OSError as error:
        raise OwnCertificateError(f"{setting}: {path} cannot be read: {error.strerror}") from None


def _chain(path: Path, text: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise OwnCertificateError(
            f"gateway.certificate: {path} holds no certificates in PEM, -----BEGIN CERTIFICATE-----; the front door's "
            "own comes first, then those that signed it"
        ) from None


def _private_key(path: Path, text: str) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(text.encode(), password=None)
    except TypeError:
        raise OwnCertificateError(
            f"gateway.key: {path} is locked with a passphrase; write it without one, for the platform's user alone"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise OwnCertificateError(f"gateway.key: {path} holds no private key in PEM") from None


def _check_pair(path: Path, public: CertificatePublicKeyTypes, key: PrivateKeyTypes) -> None:
    usable = (isinstance(public, rsa.RSAPublicKey) and public.key_size >= _LEAST_RSA_BITS) or (
        isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, _CURVES)
    )
    if not usable:
        raise OwnCertificateError(
            f"gateway.certificate: {path} has a key that the front door cannot show; it takes RSA of at least "
            f"{_LEAST_RSA_BITS} bits and the curves P-256, P-384 and P-521"
        )
    if key.public_key() != public:
        raise OwnCertificateError(f"gateway.key is not the key of the certificate at the top of {path}")


def _check_life(path: Path, leaf: x509.Certificate) -> None:
    now = datetime.now(UTC)
    if leaf.not_valid_after_utc < now:
        raise OwnCertificateError(f"gateway.certificate: {path} ended on {leaf.not_valid_after_utc:%Y-%m-%d}; renew it")
    if leaf.not_valid_before_utc > now:
        raise OwnCertificateError(
            f"gateway.certificate: {path} begins on {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; look at the clock"
        )


def _names(path: Path, leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        found: Sequence[str] = leaf.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        found = ()
    if not found:
        raise OwnCertificateError(
            f"gateway.certificate: {path} has no DNS name (subjectAltName), and it is by the name which a client asks "
            "for that the front door shows it; for addresses there is gateway.names"
        )
    return tuple(name.lower() for name in found)
