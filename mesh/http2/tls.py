"""The TLS of a service's port: the certificate that holds now, and who a peer is by its own."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mesh.svid import Svid, SvidSource

__all__ = ["ShownCertificate", "identity"]


class ShownCertificate:
    """What is shown to who comes in, and whose certificates are taken: always what the source holds at that moment.

    Args:
        source: the service's certificate.

    Attributes:
        context: for the listening socket.
    """

    def __init__(self, source: SvidSource) -> None:
        self._source = source
        self._shown = source.current
        self._current = _context(source.current)
        self.context = _context(source.current)
        self.context.sni_callback = self._choose

    def _choose(self, secure: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        """A handshake begins. Each certificate has a context of its own: roots that left the bundle are not trusted."""
        if self._source.current is not self._shown:
            self._shown = self._source.current
            try:
                self._current = _context(self._shown)
            except (OSError, ValueError) as error:
                structlog.get_logger("mesh.http2").error("certificate not shown", error=str(error))
        secure.context = self._current


def _context(svid: Svid) -> ssl.SSLContext:
    """Takes peers with a certificate of our root. The key is read from memory: no disk sees it.

    Sessions are not taken up again: a certificate that ran out meanwhile would come in with them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    descriptor = os.memfd_create("svid")
    try:
        os.write(descriptor, svid.key + b"\n" + svid.chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    context.load_verify_locations(cadata=svid.bundle.decode())
    return context


def identity(certificate: bytes) -> Mapping[str, Sequence[bytes]]:
    """What grpc's `auth_context` says of a peer's certificate, DER: its SPIFFE ID, and itself as PEM."""
    shown = x509.load_der_x509_certificate(certificate)
    uris: list[str] = []
    with suppress(x509.ExtensionNotFound, ValueError):
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    spiffe = [uri.encode() for uri in uris if uri.startswith("spiffe://")]
    return {
        "peer_spiffe_id": spiffe if len(spiffe) == 1 else [],
        "x509_pem_cert": [shown.public_bytes(serialization.Encoding.PEM)],
    }
