"""One HTTP request over the guarded network: bounded in time and size, redirects only where they are wanted.

It sends what it is given and adds nothing: no cookies, no proxies of the environment, no credentials of its own. What
an error says never holds more of the address than its host.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpcore
import httpx

from integration.adapters.egress import Guard, GuardedNetwork, Resolver, open_target, resolve
from integration.adapters.turns import Turns, calling_tenant
from integration.errors import (
    AnswerInvalidError,
    AnswerTooLargeError,
    CallTimeoutError,
    IntegrationError,
    LocationForbiddenError,
    RateLimitedError,
    SystemRefusedError,
    SystemUnavailableError,
)

__all__ = ["HttpAnswer", "HttpClient", "HttpRequest", "check_headers"]

_MAX_POOLS = 32
_MAX_CONNECTIONS = 500
_TENANTS_REQUESTS = 25
"""How many requests of one tenant are under way at once; a pool has room for those of many."""
_KEPT_CONNECTIONS = 20
_KEPT_S = 30.0
_AGAIN_S = 1.0
_SENDING = "http11.send_request_headers.started"
_OWN = frozenset(
    {
        "connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te",
        "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_AGENT = "tiation"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What to send, and what may be spent on it.

    Attributes:
        method: in capitals.
        uri: where to.
        headers: by name, without those of the connection itself.
        body: the bytes; None for none.
        timeout_s: the longest it may take in all.
        max_bytes: the most that the decoded answer may hold.
        redirects: how many may be followed.
        ca: certificates (PEM) that are trusted instead of the system's; empty for the system's.
        confidential: true where it must not be sent in the clear to a public address.
        repeatable: true where it does no harm when a connection that was kept open dies under it.
    """

    method: str
    uri: str
    headers: Mapping[str, str]
    body: bytes | None = None
    timeout_s: float = 10.0
    max_bytes: int = 1024 * 1024
    redirects: int = 0
    ca: str = ""
    confidential: bool = True
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back.

    Attributes:
        status: its status.
        headers: by lower-case name; several values are joined by `, `.
        body: decoded from its content encoding.
        uri: what answered in the end.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    uri: str


class HttpClient:
    """Sends requests to hosts that the guard allows.

    Args:
        guard: decides.
        resolver: finds addresses.
    """

    def __init__(self, guard: Guard, resolver: Resolver = resolve) -> None:
        self._guard = guard
        self._resolver = resolver
        self._turns = Turns(_TENANTS_REQUESTS)
        self._pools: dict[tuple[str, bool, bool], httpcore.AsyncConnectionPool] = {}

    async def send(self, request: HttpRequest) -> HttpAnswer:
        """Send one request and read its answer.

        Raises:
            LocationForbiddenError: the address, or one that a redirect names, may not be reached.
            SystemUnavailableError: the system does not answer; `outcome_known` says whether it may have acted.
            CallTimeoutError: it took longer than `timeout_s`; likewise.
            RateLimitedError: so many requests of the tenant are under way that for so long there was no turn.
            SystemRefusedError: its certificate is not trusted.
            AnswerTooLargeError: the answer is larger than `max_bytes`.
            AnswerInvalidError: the answer is no HTTP.
        """
        check_headers(request.headers)
        url = open_target(request.uri)
        progress = _Progress()
        try:
            async with asyncio.timeout(request.timeout_s), self._turns.turn(calling_tenant()):
                progress.begun = True
                return await self._follow(request, url, progress)
        except TimeoutError:
            if not progress.begun:
                raise RateLimitedError(
                    f"{self._turns.at_once} requests of this tenant are under way already, and none of them ended "
                    f"within {request.timeout_s:g} s",
                    retry_after_s=_AGAIN_S,
                ) from None
            late = CallTimeoutError(
                f"{url.host} did not answer within {request.timeout_s:g} s", host=url.host, seconds=request.timeout_s
            )
            late.outcome_known = not progress.sent
            raise late from None
        except IntegrationError as error:
            error.outcome_known = error.outcome_known and not progress.sent
            raise

    async def close(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            await pool.aclose()
        self._pools.clear()

    async def _follow(self, request: HttpRequest, url: httpx.URL, progress: _Progress) -> HttpAnswer:
        left = request.redirects
        while True:
            answer = await self._once(request, url, progress)
            target = answer.headers.get("location")
            if not left or target is None or answer.status not in (301, 302, 303, 307, 308):
                return answer
            left -= 1
            try:
                following = open_target(str(url.join(target)))
            except httpx.InvalidURL:
                raise AnswerInvalidError(f"{url.host} redirects to something that is no URL") from None
            request = _redirected(request, url, following, answer.status)
            url = following

    async def _once(self, request: HttpRequest, url: httpx.URL, progress: _Progress) -> HttpAnswer:
        """Send a request to one place."""
        host = url.host
        sent = httpcore.Request(
            request.method,
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=_headers(request, url),
            content=request.body,
            extensions={"trace": progress.trace},
        )
        pool = await self._pool(request, url)
        try:
            response = await pool.handle_async_request(sent)
            try:
                headers = _joined(response.headers)
                body = await _read(response, headers, request.max_bytes, host)
            finally:
                await response.aclose()
        except httpcore.ConnectError as error:
            raise _unreachable(host, error) from None
        except httpcore.RemoteProtocolError as error:
            raise _broken(host, error) from None
        except httpcore.LocalProtocolError as error:
            raise SystemRefusedError(f"the request to {host} cannot be sent: {error}") from None
        except (httpcore.NetworkError, httpcore.TimeoutException):
            raise SystemUnavailableError(f"the connection to {host} was lost", host=host) from None
        return HttpAnswer(response.status, headers, body, str(url))

    async def _pool(self, request: HttpRequest, url: httpx.URL) -> httpcore.AsyncConnectionPool:
        """Connections that fit the request; what must not be repeated goes over a new one each time."""
        public = url.scheme == "https" or not request.confidential
        key = (request.ca, public, request.repeatable)
        pool = self._pools.get(key)
        if pool is None:
            await self._make_room()
            pool = self._pools[key] = httpcore.AsyncConnectionPool(
                ssl_context=_trust(request.ca),
                max_connections=_MAX_CONNECTIONS,
                max_keepalive_connections=_KEPT_CONNECTIONS if request.repeatable else 0,
                keepalive_expiry=_KEPT_S,
                network_backend=GuardedNetwork(self._guard, self._resolver, public=public),
            )
        return pool

    async def _make_room(self) -> None:
        """Close a pool that nobody uses where there are too many."""
        if len(self._pools) >= _MAX_POOLS:
            idle = (key for key, pool in self._pools.items() if all(each.is_idle() for each in pool.connections))
            key = next(idle, None)
            if key is not None:
                await self._pools.pop(key).aclose()


class _Progress:
    """How far a request has come."""

    def __init__(self) -> None:
        self.begun = self.sent = False

    async def trace(self, event: str, _: Mapping[str, Any]) -> None:
        """Hear from httpcore."""
        self.sent = self.sent or event == _SENDING


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse headers that are none, or that belong to the connection itself.

    Raises:
        SystemRefusedError: naming the header.
    """
    for name, value in headers.items():
        if not name or not set(name) <= _TOKEN:
            raise SystemRefusedError(f"`{name[:100]}` is no name of a header", header=name[:100])
        if name.lower() in _OWN:
            raise SystemRefusedError(f"the header `{name}` belongs to the connection and cannot be set", header=name)
        if any((ord(character) < 32 and character != "\t") or ord(character) == 127 for character in value):
            raise SystemRefusedError(f"the header `{name}` holds a character that no header may hold", header=name)


def _headers(request: HttpRequest, url: httpx.URL) -> Sequence[tuple[bytes, bytes]]:
    given = {name.lower(): value for name, value in request.headers.items()}
    given = {"host": url.netloc.decode(), "accept-encoding": "gzip", "user-agent": _AGENT, "accept": "*/*"} | given
    if request.body is not None or request.method in ("POST", "PUT", "PATCH"):
        given["content-length"] = str(len(request.body or b""))
    return [(name.encode(), value.encode()) for name, value in given.items()]


def _joined(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _redirected(request: HttpRequest, old: httpx.URL, new: httpx.URL, status: int) -> HttpRequest:
    """The request that a redirect asks for; another origin gets no headers and no body of ours."""
    if old.scheme == "https" and new.scheme != "https":
        raise LocationForbiddenError(f"{old.host} redirects to an address without TLS; that is not followed")
    same = (old.scheme, old.host, old.port) == (new.scheme, new.host, new.port)
    changed = request
    if status in (301, 302, 303) and request.method not in ("GET", "HEAD"):
        dropped = {name: value for name, value in request.headers.items() if not name.lower().startswith("content-")}
        changed = replace(request, method="GET", body=None, headers=dropped)
    if same:
        return changed
    if changed.body is not None:
        raise LocationForbiddenError(f"{old.host} redirects a request with a body to another host; it is not sent on")
    return replace(changed, headers={})


async def _read(response: httpcore.Response, headers: Mapping[str, str], max_bytes: int, host: str) -> bytes:
    """The whole body, decoded; neither its own size nor what it unpacks to goes beyond the bound."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise AnswerInvalidError(f"{host} answers in the encoding `{encoding[:50]}`, which was not asked for")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if encoding.endswith("gzip") else None
    body = bytearray()
    assert not isinstance(response.stream, bytes)  # noqa: S101 -- an answer from the network is a stream
    async for chunk in response.aiter_stream():
        try:
            body += unpack.decompress(chunk, max_bytes + 1 - len(body)) if unpack else chunk
        except zlib.error as error:
            raise AnswerInvalidError(f"{host} says gzip and answers something else: {error}") from None
        if len(body) > max_bytes:
            raise AnswerTooLargeError(f"{host} answers more than {max_bytes} bytes", host=host, max_bytes=max_bytes)
    if unpack is not None and body and not unpack.eof:
        raise AnswerInvalidError(f"{host} answers gzip that ends too early")
    return bytes(body)


def _unreachable(host: str, error: Exception) -> IntegrationError:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return SystemRefusedError(
                f"the certificate of {host} is not trusted ({seen.verify_message}); name its authority in `ca`",
                host=host,
            )
        if isinstance(seen, ssl.SSLError):
            return SystemUnavailableError(f"no TLS can be agreed on with {host} ({seen.reason})", host=host)
        seen = seen.__cause__ or seen.__context__
    return SystemUnavailableError(f"{host} cannot be reached", host=host)


def _broken(host: str, error: Exception) -> IntegrationError:
    """A connection that ended too early may do better next time; an answer that is no HTTP will not."""
    said = str(error)
    if "disconnected" in said or "closed connection" in said:
        return SystemUnavailableError(f"{host} closed the connection before its answer was complete", host=host)
    return AnswerInvalidError(f"{host} answers something that is no HTTP: {said[:200]}", host=host)


def _trust(ca: str) -> ssl.SSLContext:
    """Whose certificates are believed.

    Raises:
        LocationForbiddenError: `ca` holds no certificate.
    """
    if not ca:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError):
        raise LocationForbiddenError("`ca` holds no certificate in PEM") from None
