"""Signatures of webhooks: made after Standard Webhooks, checked after that and after the ways of other senders.

A signature is an HMAC-SHA256 over the body exactly as it was sent. Every comparison takes the same time whatever it
compares, and a secret's HMAC is computed once however many signatures a request carries.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from integration.errors import SignatureInvalidError

__all__ = ["Signed", "Signing", "key_of", "new_secret", "signature_headers", "verified"]

_PREFIX = "whsec_"
_MIN_KEY, _MAX_KEY = 24, 64
_NEW_KEY = 32
_ID = re.compile(r"[!-\-/-~]{1,256}")
"""Printable and without a full stop, which parts the id from the time in what is signed."""
_TIME = re.compile(r"[0-9]{1,12}")
_MAX_SIGNATURES = 16


class Signing(msgspec.Struct, frozen=True):
    """How a sender signs.

    Attributes:
        scheme: `STANDARD`, `HMAC_SHA256_HEX` or `TIMESTAMPED`.
        header: carries the signature, lower case; empty for STANDARD.
        prefix: what stands before a signature.
        timestamp_header: carries the time, lower case; empty for the part `t=` of `header`.
        content: what is signed, `{timestamp}` and at its end `{body}`.
    """

    scheme: str = "STANDARD"
    header: str = ""
    prefix: str = ""
    timestamp_header: str = ""
    content: str = ""


class Signed(msgspec.Struct, frozen=True):
    """What a request that holds has said under its signature: its id, where the scheme has one."""

    message_id: str = ""


class _Claim(msgspec.Struct, frozen=True):
    """What a request says of itself.

    Attributes:
        before: what is signed before the body.
        signatures: those given, decoded.
        time: the time given; None where the scheme has none.
        message_id: the id given; empty where the scheme has none.
    """

    before: bytes
    signatures: Sequence[bytes]
    time: int | None = None
    message_id: str = ""


def new_secret() -> str:
    """A new secret in the form of Standard Webhooks."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_NEW_KEY)).decode()


def key_of(secret: str) -> bytes:
    """The key in a secret of Standard Webhooks, `whsec_` and 24 to 64 bytes in base64.

    Raises:
        ValueError: it is none; the text says why and does not hold the secret.
    """
    if not secret.startswith(_PREFIX):
        raise ValueError(f"must begin with `{_PREFIX}`")
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"must be base64 after `{_PREFIX}`") from None
    if not _MIN_KEY <= len(key) <= _MAX_KEY:
        raise ValueError(f"holds {len(key)} bytes; a secret has {_MIN_KEY} to {_MAX_KEY}")
    return key


def signature_headers(keys: Iterable[bytes], message_id: str, time: int, body: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks: one signature a key, the newest key first.

    Args:
        keys: more than one while a secret is changed.
        message_id: the same for every repeat.
        time: of this attempt, seconds since 1970.
        body: as it is sent.
    """
    content = f"{message_id}.{time}.".encode() + body
    signed = (base64.b64encode(_mac(key, content)).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(time),
        "webhook-signature": " ".join(f"v1,{each}" for each in signed),
    }


def verified(
    signing: Signing, keys: Iterable[str], headers: Mapping[str, str], body: bytes, *, now: float, tolerance_s: float
) -> Signed:
    """What a request says, if one of the secrets has signed it, and lately.

    Args:
        signing: how the sender signs.
        keys: the secrets that are good.
        headers: of the request, by lower-case name.
        body: exactly as it was sent.
        now: seconds since 1970.
        tolerance_s: how far the signed time may be away, either way.

    Raises:
        SignatureInvalidError: anything about it does not hold; the error never says what.
    """
    claim = _READERS[signing.scheme](signing, headers)
    content = claim.before + body
    holds = False
    for secret in keys:
        key = key_of(secret) if signing.scheme == "STANDARD" else secret.encode()
        expected = _mac(key, content)
        for given in claim.signatures:
            holds |= hmac.compare_digest(expected, given)
    if not holds or (claim.time is not None and abs(now - claim.time) > tolerance_s):
        raise SignatureInvalidError
    return Signed(claim.message_id)


def _standard(_: Signing, headers: Mapping[str, str]) -> _Claim:
    """Standard Webhooks: `v1,…` signatures with spaces between them."""
    message_id, time = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not _ID.fullmatch(message_id) or not _TIME.fullmatch(time):
        raise SignatureInvalidError
    given = [part.removeprefix("v1,") for part in headers.get("webhook-signature", "").split(" ") if part[:3] == "v1,"]
    return _Claim(f"{message_id}.{time}.".encode(), _decoded(given, _from_base64), int(time), message_id)


def _hexadecimal(signing: Signing, headers: Mapping[str, str]) -> _Claim:
    """One signature of the body alone."""
    given = headers.get(signing.header, "")
    if not given.startswith(signing.prefix):
        raise SignatureInvalidError
    return _Claim(b"", _decoded([given.removeprefix(signing.prefix)], _from_hex))


def _timestamped(signing: Signing, headers: Mapping[str, str]) -> _Claim:
    """Signatures of a time and the body, in one header with the time or in another one."""
    parts = [part.strip() for part in headers.get(signing.header, "").split(",")]
    times = [part.removeprefix("t=") for part in parts if part.startswith("t=")]
    time = headers.get(signing.timestamp_header, "") if signing.timestamp_header else (times or [""])[0]
    if not _TIME.fullmatch(time) or (not signing.timestamp_header and len(times) != 1):
        raise SignatureInvalidError
    given = [part.removeprefix(signing.prefix) for part in parts if part.startswith(signing.prefix)]
    before = (signing.content or "{timestamp}.{body}").removesuffix("{body}").replace("{timestamp}", time)
    return _Claim(before.encode(), _decoded(given, _from_hex), int(time))


_READERS: Mapping[str, Callable[[Signing, Mapping[str, str]], _Claim]] = {
    "STANDARD": _standard,
    "HMAC_SHA256_HEX": _hexadecimal,
    "TIMESTAMPED": _timestamped,
}
"""How each scheme is read."""


def _decoded(given: Sequence[str], decode: Callable[[str], bytes]) -> list[bytes]:
    """The signatures that are well formed.

    Raises:
        SignatureInvalidError: there is none, or more than anybody needs.
    """
    found = []
    for text in given[: _MAX_SIGNATURES + 1]:
        try:
            found.append(decode(text))
        except ValueError:
            continue
    if not 0 < len(found) <= _MAX_SIGNATURES:
        raise SignatureInvalidError
    return found


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _from_hex(text: str) -> bytes:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ValueError
    return bytes.fromhex(text)


def _mac(key: bytes, content: bytes) -> bytes:
    return hmac.new(key, content, hashlib.sha256).digest()
