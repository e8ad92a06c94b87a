"""Credentials at rest: AES-256-GCM under a key of the tenant's own, bound to the place where they are kept.

The root key lies in a file of mode 0600; a tenant's key is derived from it (HKDF-SHA256, RFC 5869).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mesh.errors import Code, TiationError
from mesh.svid import write_private

__all__ = ["Vault", "VaultError"]

_KEY_VERSION = "1"
_NONCE_BYTES = 12


class VaultError(TiationError):
    """Kept credentials cannot be opened: the key file is another one, or they were moved or changed."""

    code = Code.DATA_LOSS
    reason = "CREDENTIALS_UNREADABLE"
    domain = "integration.tiation.dev"


class Vault:
    """Seals and opens credentials.

    Args:
        key_file: where the root key is; made when there is none.
    """

    def __init__(self, key_file: Path) -> None:
        if not key_file.exists():
            write_private(key_file, os.urandom(32).hex())
        self._root = bytes.fromhex(key_file.read_text())

    def seal(self, tenant: str, name: str, credentials: Mapping[str, str]) -> str:
        """Encrypt a connection's credentials; empty for none."""
        if not credentials:
            return ""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher(tenant).encrypt(nonce, msgspec.json.encode(dict(credentials)), _place(tenant, name))
        return base64.b64encode(nonce + sealed).decode()

    def open(self, tenant: str, name: str, sealed: str) -> dict[str, str]:
        """Decrypt a connection's credentials.

        Raises:
            VaultError: they are not what was sealed for this connection.
        """
        if not sealed:
            return {}
        raw = base64.b64decode(sealed)
        try:
            plain = self._cipher(tenant).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _place(tenant, name))
        except InvalidTag:
            raise VaultError(f"the credentials of {name} cannot be opened; set them again", resource=name) from None
        return msgspec.json.decode(plain, type=dict[str, str])

    def _cipher(self, tenant: str) -> AESGCM:
        derive = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=f"credentials|{tenant}".encode())
        return AESGCM(derive.derive(self._root))


def _place(tenant: str, name: str) -> bytes:
    """What the ciphertext is bound to: tenant, table, row, column, version of the key."""
    return f"{tenant}|entries|{name}|sealed|{_KEY_VERSION}".encode()
