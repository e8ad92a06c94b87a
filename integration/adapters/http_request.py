"""Making the request of an operation: path, query, headers and body from the manifest and the caller's input."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from integration.errors import SystemRefusedError
from integration.manifest import ApiKeyAuth, Auth, BasicAuth, BearerAuth, HttpConfig, HttpSpec, placeholders
from integration.ports import Effect

__all__ = ["Prepared", "authorized", "filled_path", "prepared", "query_of", "redacted"]

_MAX_KEY = 255
_SHORTEST_SECRET = 4


class Prepared(msgspec.Struct, frozen=True):
    """A request without what proves who is asking.

    Attributes:
        path: of the operation, with its placeholders filled in.
        query: parameters in order.
        headers: by name.
        body: the bytes; None for none.
    """

    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes | None


def prepared(
    config: HttpConfig,
    spec: HttpSpec,
    made: Mapping[str, Any],
    value: Any,  # noqa: ANN401 -- any JSON
    effect: Effect | None,
) -> Prepared:
    """The request of an operation.

    Args:
        config: the connection's.
        spec: the operation's.
        made: what the expressions in `query`, `headers`, `body` and `form` came to, by these names.
        value: the caller's input.
        effect: is sent along, where there is one.

    Raises:
        SystemRefusedError: the input does not fit the operation.
    """
    headers = {name.lower(): text for name, text in config.headers.items()}
    for name, given in made["headers"].items():
        if given is not None:
            headers[name.lower()] = _text(given, f"the header `{name}`")
    body: bytes | None = None
    if spec.form is not msgspec.UNSET:
        if not isinstance(made["form"], dict):
            raise SystemRefusedError("`form` gives no object, the fields by their name")
        headers.setdefault("content-type", "application/x-www-form-urlencoded")
        body = urlencode(query_of(made["form"])).encode()
    elif spec.body is not msgspec.UNSET:
        kind = headers.setdefault("content-type", "application/json")
        given = made["body"]
        body = given.encode() if isinstance(given, str) and "json" not in kind else msgspec.json.encode(given)
    headers.setdefault("accept", "application/json, */*;q=0.5")
    if effect is not None:
        headers[config.idempotency_header.lower()] = _idempotency_key(effect)
    return Prepared(filled_path(spec.path, value), query_of(made["query"]), headers, body)


def filled_path(path: str, value: Any) -> str:  # noqa: ANN401 -- any JSON
    """A path with its placeholders filled in from the input, each as one segment's text and nothing more.

    Raises:
        SystemRefusedError: the input lacks one, or it would change the path.
    """
    given = value if isinstance(value, dict) else {}
    for name in placeholders(path):
        if given.get(name) is None:
            raise SystemRefusedError(f"the input lacks `{name}`, which the path needs", parameter=name)
        text = _text(given[name], f"the input's `{name}`")
        if text in ("", ".", ".."):
            raise SystemRefusedError(f"the input's `{name}` cannot stand in a path", parameter=name)
        path = path.replace(f"{{{name}}}", quote(text, safe=""))
    return path


def query_of(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Parameters in order; null is left out, a list is there once an item.

    Raises:
        SystemRefusedError: an object is no parameter.
    """
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        given = value if isinstance(value, list) else [value]
        found.extend((name, _text(each, f"the parameter `{name}`")) for each in given if each is not None)
    return tuple(found)


def authorized(
    auth: Auth, credentials: Mapping[str, str], token: str
) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """The headers and the query parameters that prove who is asking."""
    match auth:
        case BasicAuth():
            pair = f"{credentials['username']}:{credentials['password']}"
            return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, ()
        case BearerAuth():
            return {"authorization": f"Bearer {credentials['token']}"}, ()
        case ApiKeyAuth(place="header"):
            return {auth.name.lower(): auth.prefix + credentials["key"]}, ()
        case ApiKeyAuth():
            return {}, ((auth.name, auth.prefix + credentials["key"]),)
        case _:
            return ({"authorization": f"Bearer {token}"} if token else {}), ()


def redacted(text: str, credentials: Mapping[str, str], token: str = "") -> str:
    """A text of the system's without any secret of ours."""
    pair = f"{credentials.get('username', '')}:{credentials.get('password', '')}"
    secrets = [*credentials.values(), token, base64.b64encode(pair.encode()).decode()]
    for secret in sorted({each for each in secrets if len(each) >= _SHORTEST_SECRET}, key=len, reverse=True):
        for form in (secret, quote(secret, safe="")):
            text = text.replace(form, "[secret]")
    return text


def _text(value: Any, what: str) -> str:  # noqa: ANN401 -- any JSON
    """A plain value as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, str)):
        return str(value)
    raise SystemRefusedError(f"{what} is no plain value; map it to one")


def _idempotency_key(effect: Effect) -> str:
    """The caller's key where a header can hold it, else a UUID that follows from it."""
    key = effect.key.partition("|")[2]
    fits = len(key) <= _MAX_KEY and key.isascii() and key.isprintable() and " " not in key
    return key if fits else str(uuid.uuid5(uuid.NAMESPACE_URL, effect.key))
