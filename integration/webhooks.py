"""Webhooks: what is kept of them, what makes one valid, and how a request that was sent to one is accepted.

How signatures are checked is `integration.signatures`; how an accepted request becomes a run is
`integration.deliveries`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from integration.deliveries import Deliveries, Delivery
from integration.errors import DeliveryInvalidError, WebhookUnknownError
from integration.payload import request_value
from integration.signatures import Signing, key_of, verified
from integration.strict import invalid
from integration.vault import Vault
from mesh.entries import Entry
from mesh.errors import InvalidError
from mesh.identity import Requester
from mesh.resource import fits, tenant_of
from mesh.sandbox import SandboxError, SandboxPool

__all__ = ["DEFAULT_TOLERANCE_S", "MAX_TOLERANCE_S", "Receiver", "Webhook", "WebhookRules"]

DEFAULT_TOLERANCE_S = 300.0
MAX_TOLERANCE_S = 3600.0
_MIN_SECRET = 16
_MAX_INPUT = 256 * 1024
"""As large as a run's input may be."""
_AGENT = "tenants/{tenant}/agents/{agent}"


class Webhook(msgspec.Struct, frozen=True):
    """An address to which another system sends signed requests.

    Attributes:
        agent: runs.
        signing: how the sender signs.
        input: a jq program from `{headers, body}` to the run's input; empty for the body.
        dedupe: a jq program from `{headers, body}` to what makes two requests the same one; empty for the default.
        tolerance_s: how far the signed time may be from ours.
        disabled: true to receive nothing.
        sealed: the secrets, encrypted.
        subject: on whose behalf runs start.
        role: only what this role allows; empty for everything that the subject may do.
        uid: which principal of the subject's name; empty for a webhook of an earlier release.
    """

    agent: str
    signing: Signing = Signing()
    input: str = ""
    dedupe: str = ""
    tolerance_s: float = DEFAULT_TOLERANCE_S
    disabled: bool = False
    sealed: str = ""
    subject: str = ""
    role: str = ""
    uid: str = ""


class WebhookRules:
    """Checks webhooks before they are kept.

    Args:
        sandbox: compiles jq programs.
    """

    def __init__(self, sandbox: SandboxPool) -> None:
        self._sandbox = sandbox

    async def check(self, name: str, webhook: Webhook, secrets: tuple[str, ...]) -> None:
        """Refuse a webhook that cannot work.

        Raises:
            InvalidError: the agent, the signature or a secret is wrong.
            OperationInvalidError: a program does not compile.
        """
        if not fits(_AGENT, webhook.agent) or tenant_of(webhook.agent) != tenant_of(name):
            raise InvalidError("webhook.agent", f"must name an agent of the webhook's own tenant, `{_AGENT}`")
        _check_signing(webhook.signing)
        for at, secret in enumerate(secrets):
            _check_secret(webhook.signing.scheme, secret, f"webhook.secrets[{at}]")
        for field, program in (("input", webhook.input), ("dedupe", webhook.dedupe)):
            if program:
                try:
                    await self._sandbox.compile_jq(program, owner=tenant_of(name))
                except SandboxError as error:
                    refused = invalid(f"webhook.{field}", error.message)
                    refused.metadata |= error.metadata
                    raise refused from None


class Receiver:
    """Accepts what was sent to webhooks.

    Args:
        vault: opens secrets.
        sandbox: runs jq programs.
        deliveries: keeps what was accepted and starts its runs.
        now: seconds since 1970.
    """

    def __init__(
        self, vault: Vault, sandbox: SandboxPool, deliveries: Deliveries, now: Callable[[], float] = time.time
    ) -> None:
        self._vault = vault
        self._sandbox = sandbox
        self._deliveries = deliveries
        self._now = now

    async def receive(self, entry: Entry[Webhook], headers: Mapping[str, str], body: bytes) -> str:
        """Accept a request, once; the name of its run, whether it is new or a repeat.

        Args:
            entry: the webhook.
            headers: the request's, by lower-case name.
            body: exactly as it was sent.

        Raises:
            WebhookUnknownError: the webhook is disabled.
            SignatureInvalidError: nobody who knows a secret has signed it, or not lately.
            DeliveryInvalidError: it cannot become a run's input.
            WebhookBusyError: too much that was accepted waits to be started.
        """
        webhook = entry.body
        if webhook.disabled:
            raise WebhookUnknownError
        secrets = self._vault.open(tenant_of(entry.name), entry.name, webhook.sealed)
        now = self._now()
        signed = verified(webhook.signing, secrets.values(), headers, body, now=now, tolerance_s=webhook.tolerance_s)
        plain = not webhook.dedupe
        value = None if plain else request_value(headers, body)
        key = await self._key(entry, signed.message_id, value, body)
        known = await self._deliveries.known(key)
        if known is not None:
            return known
        given = await self._input(entry, request_value(headers, body) if value is None else value)
        run = f"{webhook.agent}/runs/webhook-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
        requester = Requester(tenant_of(entry.name), webhook.subject, entry.name, role=webhook.role, uid=webhook.uid)
        return await self._deliveries.accept(Delivery(key, entry.name, run, requester, given, now))

    async def test(self, entry: Entry[Webhook], headers: Mapping[str, str], body: bytes) -> tuple[Any, str]:
        """What a request would become: the run's input, and what makes two requests the same one."""
        value = request_value(headers, body)
        given = await self._input(entry, value)
        return given, await self._dedupe(entry, headers.get("webhook-id", ""), value, body)

    async def _key(self, entry: Entry[Webhook], message_id: str, value: Any, body: bytes) -> str:  # noqa: ANN401
        """Names a request among all requests to all webhooks; a webhook of the same name later is another one."""
        same = await self._dedupe(entry, message_id, value, body)
        return f"{entry.uid}/{hashlib.sha256(same.encode()).hexdigest()}"

    async def _dedupe(self, entry: Entry[Webhook], message_id: str, value: Any, body: bytes) -> str:  # noqa: ANN401
        """What makes two requests the same one."""
        webhook = entry.body
        if not webhook.dedupe:
            return message_id if webhook.signing.scheme == "STANDARD" else hashlib.sha256(body).hexdigest()
        said = await self._mapped(webhook.dedupe, value, entry, "dedupe")
        if isinstance(said, bool) or not isinstance(said, (str, int, float)) or said == "":
            raise DeliveryInvalidError("`dedupe` gives neither a text nor a number for this request")
        return str(said)

    async def _input(self, entry: Entry[Webhook], value: dict[str, Any]) -> Any:  # noqa: ANN401 -- any JSON
        program = entry.body.input
        given = await self._mapped(program, value, entry, "input") if program else value["body"]
        size = len(msgspec.json.encode(given))
        if size > _MAX_INPUT:
            raise DeliveryInvalidError(f"the run's input is {size} bytes; at most {_MAX_INPUT} are kept")
        return given

    async def _mapped(self, program: str, value: Any, entry: Entry[Webhook], what: str) -> Any:  # noqa: ANN401
        try:
            return await self._sandbox.jq(program, value, owner=tenant_of(entry.name))
        except SandboxError as error:
            if error.retry_after_s is not None:
                raise
            raise DeliveryInvalidError(f"`{what}` fails on this request: {error.message}") from None


def _check_signing(signing: Signing) -> None:
    where = "webhook.signature"
    given = {name for name in ("header", "prefix", "timestamp_header", "content") if getattr(signing, name)}
    allowed = {"STANDARD": set(), "HMAC_SHA256_HEX": {"header", "prefix"}}.get(signing.scheme, given)
    for name in sorted(given - allowed):
        raise InvalidError(f"{where}.{name}", f"means nothing where the scheme is {signing.scheme}")
    if signing.scheme != "STANDARD" and not signing.header:
        raise InvalidError(f"{where}.header", "is missing; name the header that carries the signature")
    if signing.scheme != "TIMESTAMPED":
        return
    if not signing.prefix:
        raise InvalidError(f"{where}.prefix", "is missing; say what stands before the signature, for example `v1=`")
    if signing.content and (
        not signing.content.endswith("{body}")
        or signing.content.count("{body}") != 1
        or signing.content.count("{timestamp}") != 1
    ):
        raise InvalidError(f"{where}.content", "must hold `{timestamp}` once and end with `{body}`")


def _check_secret(scheme: str, secret: str, field: str) -> None:
    if scheme == "STANDARD":
        try:
            key_of(secret)
        except ValueError as error:
            raise InvalidError(field, str(error)) from None
    elif len(secret) < _MIN_SECRET:
        raise InvalidError(field, f"has {len(secret)} characters; {_MIN_SECRET} are the least")
