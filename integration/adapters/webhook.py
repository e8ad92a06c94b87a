"""The `webhook` connector: tells another system that something has happened, signed after Standard Webhooks.

A repeat carries the same id, because the id follows from the effect's key; so a receiver that de-duplicates sees the
event once, and what may have arrived may be sent again. Tries, turns and effect keys are `integration.invoke`'s.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import httpx
import msgspec
from msgspec import Meta

from integration.adapters.egress import open_target
from integration.adapters.http_answer import meaning_of, retry_after, summary
from integration.adapters.http_client import HttpAnswer, HttpClient, HttpRequest, check_headers
from integration.adapters.http_request import redacted
from integration.errors import (
    CredentialUnknownError,
    IntegrationError,
    RateLimitedError,
    SystemRefusedError,
    SystemUnavailableError,
)
from integration.manifest import RateLimits
from integration.ports import Answer, Effect, Limits, Target
from integration.signatures import key_of, signature_headers
from integration.strict import Strict, invalid, read_strictly, whole_numbers

__all__ = ["WebhookConnector"]

_CREDENTIALS = ("secret", "previous_secret")
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)+/?")
_OWN = re.compile(r"webhook-.*|authorization|cookie|content-type", re.IGNORECASE)
_TEST_S = 10.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 5.0, 900.0
_MAX_FAILING = 4096


class _Config(Strict, frozen=True, kw_only=True):
    """A connection's `config`."""

    url: str
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    ca: str = ""
    limits: RateLimits = RateLimits()


class _Spec(Strict, frozen=True, kw_only=True):
    """An operation's `spec`."""

    type: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{0,128}$")] = ""
    path: str = ""


class WebhookConnector:
    """Sends webhooks.

    Args:
        client: sends requests.
        now: seconds since 1970.
    """

    keeps_effects = False
    deduplicates = True

    def __init__(self, client: HttpClient, now: Callable[[], float] = time.time) -> None:
        self._client = client
        self._now = now
        self._failing: dict[str, int] = {}

    def check(self, _name: str, config: Mapping[str, object], credentials: Mapping[str, str]) -> None:
        """Refuse an address that cannot be one, and secrets that are none."""
        read = read_strictly(_Config, config, "connection.config")
        try:
            open_target(read.url)
            check_headers(read.headers)
        except IntegrationError as error:
            field = "headers" if isinstance(error, SystemRefusedError) else "url"
            raise invalid(f"connection.config.{field}", error.message) from None
        if "#" in read.url:
            raise invalid("connection.config.url", "must hold no fragment")
        for name in read.headers:
            if _OWN.fullmatch(name):
                raise invalid("connection.config.headers", f"`{name}` cannot be set; the signature is who we are")
        for name in credentials:
            if name not in _CREDENTIALS:
                known = ", ".join(_CREDENTIALS)
                raise CredentialUnknownError(
                    f"a webhook has no use for a credential `{name}`; it knows {known}", name=name
                )
        if not credentials.get("secret"):
            raise CredentialUnknownError("credentials.secret is missing; agree on one with the receiver", name="secret")
        for name, secret in credentials.items():
            try:
                key_of(secret)
            except ValueError as error:
                raise invalid(f"connection.credentials.{name}", str(error)) from None

    def check_operation(self, spec: Mapping[str, object], field: str) -> None:
        """Refuse an operation that cannot work."""
        read = read_strictly(_Spec, spec, f"{field}.spec")
        if read.path and (not _PATH.fullmatch(read.path) or {".", ".."} & set(read.path.split("/"))):
            raise invalid(
                f"{field}.spec.path", "must begin with `/` and hold neither a query nor `.` or `..` as a part"
            )

    def programs(
        self, _config: Mapping[str, object], _specs: Mapping[str, Mapping[str, object]]
    ) -> Iterable[tuple[str, str]]:
        """None: what is sent is what the operation's `input` makes of it."""
        return ()

    def limits(self, config: Mapping[str, object]) -> Limits:
        """What `limits` says."""
        said = read_strictly(_Config, config, "connection.config").limits
        rates = ((said.requests_per_second, 1.0), (said.requests_per_minute, 60.0))
        return Limits(tuple((each, window_s) for each, window_s in rates if each), said.concurrency or 0)

    async def test(self, target: Target) -> str:
        """Ask for the address without sending anything."""
        config = read_strictly(_Config, target.config, "connection.config")
        answer = await self._client.send(
            HttpRequest("HEAD", config.url, config.headers, timeout_s=_TEST_S, ca=config.ca, repeatable=True)
        )
        if answer.status >= 500:
            raise SystemRefusedError(f"it answers {answer.status}", status=answer.status)
        return f"{httpx.URL(config.url).host} answers {answer.status}; no webhook was sent"

    async def call(
        self,
        target: Target,
        spec: Mapping[str, object],
        value: Any,  # noqa: ANN401 -- any JSON
        *,
        effect: Effect | None,
        timeout_s: float,
        repeatable: bool = False,
        resume: object = None,  # noqa: ARG002 -- there is never more of an answer
    ) -> Answer:
        """Send one webhook."""
        assert effect is not None  # noqa: S101 -- where nobody names an effect, the invoker does
        config = read_strictly(_Config, target.config, "connection.config")
        read = read_strictly(_Spec, spec, "spec")
        given = whole_numbers(value)
        body = msgspec.json.encode({"type": read.type, "data": given} if read.type else given)
        message_id = _message_id(effect)
        keys = [key_of(target.credentials[name]) for name in _CREDENTIALS if target.credentials.get(name)]
        signed = signature_headers(keys, message_id, int(self._now()), body)
        request = HttpRequest(
            "POST",
            str(_below(config.url, read.path)),
            {**config.headers, "content-type": "application/json", **signed},
            body,
            timeout_s=timeout_s,
            max_bytes=config.limits.max_response_bytes,
            ca=config.ca,
            repeatable=repeatable,
        )
        try:
            answer = await self._client.send(request)
            _judge(answer, target)
        except IntegrationError as error:
            if error.may_pass:
                error.retry_after_s = self._wait_s(target)
            raise
        self._failing.pop(target.uid or target.name, None)
        return Answer({"id": message_id, "status": answer.status})

    async def close(self) -> None:
        """Nothing is held here."""

    def _wait_s(self, target: Target) -> float:
        """How long a receiver that fails is left alone, longer each time."""
        key = target.uid or target.name
        if len(self._failing) >= _MAX_FAILING:
            self._failing.clear()
        failures = self._failing[key] = self._failing.get(key, 0) + 1
        return float(min(_FIRST_WAIT_S * 1.5 ** min(failures - 1, 20), _LONGEST_WAIT_S))


def _message_id(effect: Effect) -> str:
    """The id of every attempt at an effect."""
    return f"msg_{hashlib.sha256(effect.key.encode()).hexdigest()[:32]}"


def _below(address: str, path: str) -> httpx.URL:
    url = httpx.URL(address)
    return url.copy_with(path=url.path.rstrip("/") + path) if path else url


def _judge(answer: HttpAnswer, target: Target) -> None:
    """Refuse every answer but one that says it was taken.

    Raises:
        RateLimitedError: it comes too early.
        SystemUnavailableError: it may be taken later.
        SystemRefusedError: it never will be.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    text = redacted(summary(answer), target.credentials)
    if meaning_of(answer) == "rate_limited":
        limited = RateLimitedError(
            f"the receiver is busy ({status}){text}", retry_after_s=retry_after(answer.headers), status=status
        )
        limited.said_by_system = True
        raise limited
    if status in (408, 425) or status >= 500:
        failed = SystemUnavailableError(f"the receiver answers {status}{text}", status=status)
        failed.outcome_known = status in (408, 425)
        raise failed
    if status == 410:
        raise SystemRefusedError("the receiver wants no more webhooks at this address (410)", status=status)
    if 300 <= status < 400:
        raise SystemRefusedError(
            f"the receiver redirects ({status}), which is not followed; change `url`", status=status
        )
    raise SystemRefusedError(f"the receiver does not take it ({status}){text}", status=status)
