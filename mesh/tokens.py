"""Access tokens as a service sees them: checked with the public keys that came with the policy.

Issuing tokens is security's; whose token a call carries is `mesh.stages.identity`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from mesh.errors import Code, TiationError

__all__ = [
    "AUDIENCE",
    "Claims",
    "TokenAudienceError",
    "TokenError",
    "TokenExpiredError",
    "TokenInvalidError",
    "TokenMissingError",
    "TokenRevokedError",
    "TokenVerifier",
]

AUDIENCE = "tiation"
_MAX_TOKEN_CHARS = 4096
_MAX_KEPT = 4096
_LEEWAY_S = 5


class TokenError(TiationError):
    """The base of everything that can be wrong with a token."""

    code = Code.UNAUTHENTICATED
    reason = "TOKEN_INVALID"


class TokenMissingError(TokenError):
    """The call carries no token."""

    reason = "TOKEN_MISSING"


class TokenInvalidError(TokenError):
    """The token is none of ours, or was changed."""


class TokenExpiredError(TokenError):
    """The token has ended, or does not hold yet."""

    reason = "TOKEN_EXPIRED"


class TokenAudienceError(TokenError):
    """The token was given for somebody else."""

    reason = "TOKEN_AUDIENCE"


class TokenRevokedError(TokenError):
    """The token was good and has been taken back: its key, its principal, or the principal itself is gone."""

    reason = "TOKEN_REVOKED"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says.

    Attributes:
        tenant: the tenant to act in.
        subject: the principal, `tenants/{tenant}/principals/{principal}`.
        role: only what this role allows; empty means everything the subject has.
        token_id: identifier of the token.
        begin: when it begins to hold, seconds since the epoch.
        end: when it ends.
        uid: which principal of that name; empty where the token does not say.
        key: uid of the API key that it was exchanged for.
        issued: when, seconds since the epoch.
    """

    tenant: str
    subject: str
    role: str
    token_id: str
    begin: float
    end: float
    uid: str = ""
    key: str = ""
    issued: float = 0.0


class TokenVerifier:
    """Checks access tokens; one that was found good is not checked again until it ends.

    Args:
        jwks: the public keys, a JSON Web Key Set.
        issuer: the issuer that a token must name.
    """

    def __init__(self, jwks: str, *, issuer: str) -> None:
        self._keys = KeySet.import_key_set(msgspec.json.decode(jwks))
        self._issuer = issuer
        self._good: OrderedDict[str, Claims] = OrderedDict()

    def verify(self, token: str, now: float) -> Claims:
        """The claims of a token that holds at `now`.

        Raises:
            TokenInvalidError: it is malformed, changed, or signed by a stranger.
            TokenExpiredError: it has ended.
            TokenAudienceError: it is for somebody else.
        """
        claims = self._good.get(token)
        if claims is None:
            claims = self._claims(token)
            self._good[token] = claims
            if len(self._good) > _MAX_KEPT:
                self._good.popitem(last=False)
        if now >= claims.end or now + _LEEWAY_S < claims.begin:
            raise TokenExpiredError("the access token has expired; get a new one with `tiation token`")
        return claims

    def _claims(self, token: str) -> Claims:
        if len(token) > _MAX_TOKEN_CHARS:
            raise TokenInvalidError("the access token is no token of this platform")
        try:
            signed = jws.deserialize_compact(token, self._keys, algorithms=["ES256"])
            payload = msgspec.json.decode(signed.payload or b"")
        except (JoseError, ValueError, msgspec.DecodeError):
            raise TokenInvalidError("the access token is no token of this platform, or was changed") from None
        if not isinstance(payload, dict) or payload.get("iss") != self._issuer:
            raise TokenInvalidError("the access token was issued by somebody else")
        if payload.get("aud") != AUDIENCE:
            raise TokenAudienceError(f"the access token was given for another audience than `{AUDIENCE}`")
        return _read(payload)


def _read(payload: Mapping[str, Any]) -> Claims:
    try:
        return Claims(
            tenant=str(payload["tenant"]),
            subject=str(payload["sub"]),
            role=str(payload.get("role", "")),
            token_id=str(payload.get("jti", "")),
            begin=float(payload.get("nbf", 0)),
            end=float(payload["exp"]),
            uid=str(payload.get("uid", "")),
            key=str(payload.get("key", "")),
            issued=float(payload.get("iat", 0)),
        )
    except (KeyError, TypeError, ValueError):
        raise TokenInvalidError("the access token lacks a claim") from None
