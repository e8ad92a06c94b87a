"""Asking a token endpoint: OAuth 2 client credentials (RFC 6749, section 4.4)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import quote_plus, urlencode

import msgspec

from integration.adapters.http_client import HttpClient, HttpRequest
from integration.errors import AnswerInvalidError, IntegrationError, SystemRefusedError, SystemUnavailableError
from integration.manifest import OAuth2Auth
from integration.tokens import FreshToken

__all__ = ["fetch_token"]

_TIMEOUT_S = 10.0
_MAX_BYTES = 64 * 1024
_LIFETIME_S = 300.0
"""For tokens whose endpoint does not say how long they hold; RFC 6749 only recommends that it does."""
_LONGEST_S = 86_400.0
_SCOPE = frozenset(map(chr, (0x21, *range(0x23, 0x5C), *range(0x5D, 0x7F))))


async def fetch_token(client: HttpClient, auth: OAuth2Auth, credentials: Mapping[str, str], ca: str) -> FreshToken:
    """Ask for a token.

    Raises:
        SystemRefusedError: the endpoint does not accept the client; the error says why, in its words.
        SystemUnavailableError: it does not answer, or is out of order.
        AnswerInvalidError: it answers something that is no token.
    """
    form = {"grant_type": "client_credentials"}
    form |= {name: value for name, value in (("scope", auth.scope), ("audience", auth.audience)) if value}
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    client_id, secret = credentials["client_id"], credentials["client_secret"]
    if auth.client_authentication == "basic":  # each part encoded as in a form first, says RFC 6749, 2.3.1
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
        headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        form |= {"client_id": client_id, "client_secret": secret}
    request = HttpRequest(
        "POST", auth.token_url, headers, urlencode(form).encode(), timeout_s=_TIMEOUT_S, max_bytes=_MAX_BYTES, ca=ca,
        repeatable=True,
    )  # fmt: skip
    try:
        answer = await client.send(request)
    except IntegrationError as error:
        error.message = f"no access token: {error.message}"
        error.args = (error.message,)
        error.outcome_known = True  # a token that nobody got has no effect
        raise
    said = _document(answer.body)
    if answer.status == 200:
        return _token(said)
    if answer.status in (400, 401, 403) and said.get("error"):
        kind, detail = _plain(said["error"]), _plain(said.get("error_description"))
        raise SystemRefusedError(
            f"the token endpoint refuses the client: {kind}{': ' if detail else ''}{detail}", error=kind
        )
    if answer.status >= 500 or answer.status in (408, 429):
        raise SystemUnavailableError(f"no access token: the token endpoint answers {answer.status}")
    raise SystemRefusedError(f"the token endpoint answers {answer.status}; check token_url and the client")


def _token(said: Mapping[str, object]) -> FreshToken:
    token, kind, lifetime = said.get("access_token"), said.get("token_type", "bearer"), said.get("expires_in")
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise AnswerInvalidError("the token endpoint answers 200 without an access_token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise AnswerInvalidError("the token endpoint gives a token of a kind that is not `bearer`")
    try:
        lifetime_s = float(lifetime) if isinstance(lifetime, (int, float, str)) else _LIFETIME_S
    except ValueError:
        lifetime_s = _LIFETIME_S
    if not lifetime_s > 0:
        raise AnswerInvalidError("the token endpoint gives a token that has expired already")
    return FreshToken(token, min(lifetime_s, _LONGEST_S))


def _document(body: bytes) -> Mapping[str, object]:
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _plain(value: object) -> str:
    """What RFC 6749 lets an error say, and no more of it than fits a line."""
    text = value if isinstance(value, str) else ""
    return "".join(character for character in text if character in _SCOPE or character == " ")[:200]
