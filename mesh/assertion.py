"""The signed word of one service to another: for whom it calls, for one minute.

A service signs with the key of its SVID, so the callee checks the word with the very certificate that the peer shows.
Which peers may give such a word is in each method's contract.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from mesh.errors import Code, TiationError
from mesh.identity import Requester

__all__ = ["LIFE_S", "WordInvalidError", "sign", "verify"]

LIFE_S = 60.0
_HEADER = {"alg": "ES256", "typ": "tiation-assertion+jwt"}
_SKEW_S = 5.0


class WordInvalidError(TiationError):
    """The word does not hold."""

    code = Code.UNAUTHENTICATED
    reason = "ASSERTION_INVALID"


class _Word(msgspec.Struct, frozen=True):
    """What is signed."""

    iss: str
    aud: str
    exp: float
    tenant: str
    sub: str
    act: str = ""
    run: str = ""
    role: str = ""
    uid: str = ""


def sign(key_pem: bytes, requester: Requester, *, issuer: str, audience: str, now: float) -> str:
    """Say for whom the holder of the key calls.

    Args:
        key_pem: the key of the caller's SVID.
        requester: on whose behalf.
        issuer: the caller's SPIFFE ID.
        audience: the called service's name.
        now: seconds since the epoch.
    """
    word = _Word(
        issuer, audience, now + LIFE_S, requester.tenant, requester.subject, requester.actor, requester.run,
        requester.role, requester.uid,
    )  # fmt: skip
    return jws.serialize_compact(_HEADER, msgspec.json.encode(word), _private(key_pem), algorithms=["ES256"])


def verify(signed: str, certificate_pem: bytes, *, issuer: str, audience: str, now: float) -> Requester:
    """For whom the peer calls.

    Args:
        signed: what `sign` returned.
        certificate_pem: the certificate that the peer shows.
        issuer: the peer's SPIFFE ID.
        audience: the name of the service that checks.
        now: seconds since the epoch.

    Raises:
        WordInvalidError: it was signed by another key, for another service, or too long ago.
    """
    word = _opened(signed, certificate_pem)
    if word is None or word.iss != issuer:
        raise WordInvalidError("the assertion was not signed by the service that shows it", peer=issuer)
    if word.aud != audience:
        raise WordInvalidError("the assertion was made for another service", peer=issuer, audience=word.aud)
    if not now - _SKEW_S < word.exp < now + LIFE_S + _SKEW_S:
        raise WordInvalidError("the assertion has expired", peer=issuer)
    return Requester(word.tenant, word.sub, word.act, word.run, word.role, word.uid)


@lru_cache(maxsize=16)
def _private(key_pem: bytes) -> ECKey:
    return ECKey.import_key(key_pem)


@lru_cache(maxsize=64)
def _public(certificate_pem: bytes) -> ECKey:
    key = x509.load_pem_x509_certificate(certificate_pem).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return ECKey.import_key(pem)


@lru_cache(maxsize=4096)
def _opened(signed: str, certificate_pem: bytes) -> _Word | None:
    """What was signed, if it was signed with the certificate's key; checked once, as it is sent many times."""
    try:
        opened = jws.deserialize_compact(signed, _public(certificate_pem), algorithms=["ES256"])
        if opened.headers().get("typ") != _HEADER["typ"]:
            return None
        return msgspec.json.decode(opened.payload or b"", type=_Word)
    except (JoseError, ValueError, msgspec.MsgspecError):
        return None
