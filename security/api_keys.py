"""API keys: what they look like, and the keyed hash that is kept of them.

A key reads `tia_<tenant>_<id>_<secret>`: where to look it up, then 256 random bits.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from mesh.svid import write_private

__all__ = ["OPERATOR_KEY_ID", "KeyText", "Pepper", "new_key_text", "parse_key"]

OPERATOR_KEY_ID = "operator"
"""The id of the first key, which the platform makes for whoever installs it."""

_FORM = re.compile(r"tia_([a-z0-9-]{1,63})_([a-z0-9-]{1,63})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class KeyText:
    """A key, taken apart."""

    tenant: str
    key_id: str
    secret: str

    def __str__(self) -> str:
        """The key as its owner keeps it."""
        return f"tia_{self.tenant}_{self.key_id}_{self.secret}"


def new_key_text(tenant: str, key_id: str) -> KeyText:
    """A fresh key: 256 random bits."""
    return KeyText(tenant, key_id, secrets.token_urlsafe(32))


def parse_key(text: str) -> KeyText | None:
    """A key's parts; None for any other text."""
    match = _FORM.fullmatch(text)
    return KeyText(*match.groups()) if match else None


@dataclass(frozen=True, slots=True)
class Pepper:
    """The secret without which kept hashes say nothing."""

    secret: bytes

    @staticmethod
    def open(path: Path) -> Pepper:
        """The pepper that is kept in a file of mode 0600; made when there is none."""
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        return Pepper(bytes.fromhex(path.read_text()))

    def digest(self, key: KeyText) -> str:
        """HMAC-SHA256 of a key, hexadecimal."""
        return hmac.new(self.secret, str(key).encode(), hashlib.sha256).hexdigest()

    def matches(self, key: KeyText, digest: str) -> bool:
        """Whether a key is the one of which `digest` was kept, in constant time."""
        return hmac.compare_digest(self.digest(key), digest)
