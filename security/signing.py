"""The key that signs access tokens, and the tokens it signs.

Who gets a token is decided in `security.exchange`; checking them is `mesh.tokens`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
from joserfc import jws
from joserfc.jwk import ECKey

from mesh.svid import write_private
from mesh.tokens import AUDIENCE

__all__ = ["SigningKey"]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A P-256 key with the issuer that it speaks for.

    Attributes:
        key: the private key.
        issuer: what tokens name as their issuer.
    """

    key: ECKey
    issuer: str

    @staticmethod
    def open(path: Path, issuer: str) -> SigningKey:
        """The key that is kept in a file of mode 0600; made when there is none."""
        if not path.exists():
            write_private(path, ECKey.generate_key("P-256").as_pem(private=True).decode())
        return SigningKey(ECKey.import_key(path.read_bytes()), issuer)

    @property
    def key_id(self) -> str:
        """The key's thumbprint (RFC 7638)."""
        return str(self.key.thumbprint())

    @property
    def jwks(self) -> str:
        """The public key as a JSON Web Key Set."""
        public = {**self.key.as_dict(private=False), "kid": self.key_id, "use": "sig", "alg": "ES256"}
        return msgspec.json.encode({"keys": [public]}).decode()

    def token(
        self,
        *,
        tenant: str,
        subject: str,
        role: str,
        token_id: str,
        begin: int,
        end: int,
        issued: float | None = None,
        uid: str = "",
        key: str = "",
    ) -> str:
        """A signed token.

        Args:
            tenant: the tenant to act in, by its id.
            subject: the principal's name.
            role: at most what this role allows; empty for no such limit.
            token_id: unique among tokens.
            begin: seconds since the epoch.
            end: seconds since the epoch.
            issued: when, to the millisecond, so that a revocation tells tokens of one second apart; None for `begin`.
            uid: which principal of that name.
            key: uid of the API key that it is exchanged for.
        """
        claims: dict[str, object] = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": subject,
            "tenant": tenant,
            "jti": token_id,
            "iat": begin if issued is None else round(issued, 3),
            "nbf": begin,
            "exp": end,
        }
        claims |= {name: value for name, value in (("role", role), ("uid", uid), ("key", key)) if value}
        header = {"alg": "ES256", "typ": "JWT", "kid": self.key_id}
        return jws.serialize_compact(header, msgspec.json.encode(claims), self.key, algorithms=["ES256"])
