"""A service's own certificate: read at start, renewed at half its life, offered to servers and channels.

Issuing certificates is security's; this module only holds what it was given.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.errors import Code, TiationError

__all__ = ["Renewal", "Svid", "SvidError", "SvidSource", "new_key", "read_svid", "write_private"]

Renewal = Callable[[bytes], Awaitable[tuple[str, str]]]
"""Turns a signing request (DER) into a certificate chain and a trust bundle, both PEM."""


class SvidError(TiationError):
    """The service has no certificate that it can use."""

    code = Code.FAILED_PRECONDITION
    reason = "SVID_MISSING"


@dataclass(frozen=True, slots=True)
class Svid:
    """A certificate with its key.

    Attributes:
        chain: PEM, leaf first.
        key: PKCS#8 PEM.
        bundle: the roots to trust, PEM.
        begin: start of its life.
        end: end of its life.
    """

    chain: bytes
    key: bytes
    bundle: bytes
    begin: datetime
    end: datetime


def read_svid(path: Path) -> Svid:
    """Read the certificate that was laid into a service's folder.

    Raises:
        SvidError: there is none, or it cannot be read.
    """
    try:
        document = json.loads(path.read_text())
        return _svid(document["certificate_chain"], document["private_key"], document["trust_bundle"])
    except (OSError, ValueError, KeyError) as error:
        raise SvidError(f"{path}: no usable certificate ({error}); start the service with `tiation up`") from None


def write_private(path: Path, content: str) -> None:
    """Replace a file at once and wholly, readable by its owner alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def new_key() -> tuple[bytes, bytes]:
    """A fresh P-256 key as PKCS#8 PEM, and a signing request for it as DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, request.public_bytes(serialization.Encoding.DER)


class SvidSource:
    """The certificate that holds now.

    Args:
        path: where it is kept, `HOME/<service>/svid.json`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.current = read_svid(path)
        self._log = structlog.get_logger("mesh.svid")

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Credentials for a channel, with the certificate that holds now."""
        return grpc.ssl_channel_credentials(self.current.bundle, self.current.key, self.current.chain)

    async def renew_forever(self, renew: Renewal) -> None:
        """Renew at half the certificate's life, give or take a tenth; failures are tried again until its end.

        Raises:
            SvidError: the certificate ended before it could be renewed; the process must start anew.
        """
        while True:
            life_s = (self.current.end - self.current.begin).total_seconds()
            age_s = (datetime.now(UTC) - self.current.begin).total_seconds()
            await asyncio.sleep(max(0.0, life_s * random.uniform(0.45, 0.55) - age_s))  # noqa: S311 -- jitter
            await self._renew(renew, pause_s=min(30.0, life_s / 60))

    async def _renew(self, renew: Renewal, *, pause_s: float) -> None:
        while True:
            key, request = new_key()
            try:
                chain, bundle = await renew(request)
            except Exception as error:  # whatever it is, it is tried again as long as the certificate lives
                if datetime.now(UTC) >= self.current.end:
                    raise SvidError("the certificate ended before it could be renewed") from error
                self._log.warning("certificate not renewed", error=str(error), end=self.current.end.isoformat())
                await asyncio.sleep(pause_s)
                continue
            self.current = _svid(chain, key.decode(), bundle)
            document = {"certificate_chain": chain, "private_key": key.decode(), "trust_bundle": bundle}
            try:
                await asyncio.to_thread(write_private, self._path, json.dumps(document))
            except OSError as error:  # a full disk, say: this process goes on, the next one begins with the older one
                self._log.error("renewed certificate not kept", error=str(error))
            self._log.info("certificate renewed", end=self.current.end.isoformat())
            return


def _svid(chain: str, key: str, bundle: str) -> Svid:
    leaf = x509.load_pem_x509_certificate(chain.encode())
    return Svid(chain.encode(), key.encode(), bundle.encode(), leaf.not_valid_before_utc, leaf.not_valid_after_utc)
