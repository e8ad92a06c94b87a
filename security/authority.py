"""The certificate authority: its root, and the certificates that it issues to workloads and to the front door.

Who may ask for which certificate is decided by the callers: `security.bootstrap` at start, the workload servicer later.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.identity import spiffe_id
from mesh.svid import write_private
from security.errors import RequestInvalidError

__all__ = ["Authority", "public_key_of"]

_ROOT_LIFE = timedelta(days=3650)
_SKEW = timedelta(minutes=1)
"""Certificates begin a little in the past: clocks differ."""


def public_key_of(request_der: bytes) -> ec.EllipticCurvePublicKey:
    """The public key in a signing request, proven to be the asker's own.

    Raises:
        RequestInvalidError: it is no PKCS#10 request, signed with the P-256 key that it carries.
    """
    try:
        request = x509.load_der_x509_csr(request_der)
        valid = request.is_signature_valid
        key = request.public_key()
    except (ValueError, TypeError, InvalidSignature):
        raise RequestInvalidError("csr: must be a PKCS#10 certificate signing request in DER") from None
    if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RequestInvalidError("csr: must carry a P-256 key and be signed with it")
    return key


@dataclass(frozen=True, slots=True)
class Authority:
    """A root with its key.

    Attributes:
        key: signs certificates.
        certificate: the root, self-signed.
    """

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @staticmethod
    def open(path: Path, common_name: str) -> Authority:
        """The authority that is kept in a file of mode 0600; made when there is none."""
        if not path.exists():
            write_private(path, _new_root(common_name))
        content = path.read_bytes()
        key = serialization.load_pem_private_key(content, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{path}: the root's key must be an elliptic-curve key")
        return Authority(key, x509.load_pem_x509_certificate(content))

    @property
    def bundle(self) -> str:
        """The root to trust, PEM."""
        return _pem(self.certificate)

    def issue_svid(self, key: ec.EllipticCurvePublicKey, *, trust_domain: str, service: str, ttl_s: float) -> str:
        """An X.509-SVID for a service, PEM: a URI SAN with its SPIFFE ID, and the DNS SAN that gRPC clients check."""
        names: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(spiffe_id(trust_domain, service)),
            x509.DNSName(f"{service}.{trust_domain}"),
        ]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(key, service, names, usages, ttl_s)

    def issue_front(self, key: ec.EllipticCurvePublicKey, *, hosts: Sequence[str], ttl_s: float) -> str:
        """A certificate for the front door, PEM, for host names and IP addresses."""
        return self._issue(
            key, hosts[0], [_host_name(host) for host in hosts], [ExtendedKeyUsageOID.SERVER_AUTH], ttl_s
        )

    def _issue(
        self,
        key: ec.EllipticCurvePublicKey,
        common_name: str,
        names: Sequence[x509.GeneralName],
        usages: Sequence[x509.ObjectIdentifier],
        ttl_s: float,
    ) -> str:
        now = datetime.now(UTC)
        begin = now - min(_SKEW, timedelta(seconds=ttl_s / 10))
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])]))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(now + timedelta(seconds=ttl_s))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        return _pem(builder.sign(self.key, hashes.SHA256()))


def _new_root(common_name: str) -> str:
    """A fresh root: its key and its certificate, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode() + _pem(certificate)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
