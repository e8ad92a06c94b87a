"""WebhookService."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from google.protobuf import duration_pb2, empty_pb2, json_format
from tiation.integration.v1 import webhook_pb2 as pb
from tiation.integration.v1 import webhook_pb2_grpc

from integration.errors import WebhookBusyError, WebhookUnknownError
from integration.signatures import Signing, new_secret
from integration.vault import Vault
from integration.webhooks import DEFAULT_TOLERANCE_S, Receiver, Webhook, WebhookRules
from mesh.call import Context
from mesh.catalogue import Catalogue, NotFoundError
from mesh.entries import Entry
from mesh.errors import InvalidError
from mesh.identity import current_caller
from mesh.masks import masked_fields
from mesh.pagination import Pages
from mesh.resource import tenant_of
from mesh.shelf import Shelf

__all__ = ["WebhookServicer"]

_CHANGEABLE = ("agent", "signature", "input", "dedupe", "tolerance", "disabled", "secrets", "labels")
_BODY_FIELDS = {"signature": "signing", "tolerance": "tolerance_s"}
_OURS = frozenset({"authorization", "cookie", "content-type", "te", "grpc-accept-encoding", "grpc-timeout"})
_OURS_BEGIN = (":", "x-tiation-", "x-envoy-", "grpc-")


class WebhookServicer(webhook_pb2_grpc.WebhookServiceServicer):
    """Keeps webhooks and receives what is sent to them.

    Args:
        catalogue: keeps them.
        pages: makes and checks page tokens.
        rules: checks them.
        vault: seals secrets.
        receiver: accepts requests.
        at_once: how many requests are looked at at once; a flood of more is answered before it costs anything.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        pages: Pages,
        rules: WebhookRules,
        vault: Vault,
        receiver: Receiver,
        *,
        at_once: int = 64,
    ) -> None:
        self._shelf: Shelf[Webhook, pb.Webhook] = Shelf(
            catalogue, pages, Webhook, "webhooks", _show, _read, _CHANGEABLE
        )
        self._catalogue = catalogue
        self._rules = rules
        self._vault = vault
        self._receiver = receiver
        self._at_once = at_once
        self._receiving = 0

    async def GetWebhook(self, request: pb.GetWebhookRequest, _: Context) -> pb.Webhook:
        """One webhook, without its secrets."""
        return _addressed(await self._shelf.get(request.name))

    async def ListWebhooks(self, request: pb.ListWebhooksRequest, _: Context) -> pb.ListWebhooksResponse:
        """A page of webhooks."""
        found, token = await self._shelf.list(request.parent, request)
        return pb.ListWebhooksResponse(webhooks=[_addressed(each) for each in found], next_page_token=token)

    async def CreateWebhook(self, request: pb.CreateWebhookRequest, _: Context) -> pb.Webhook:
        """A new webhook, with the secret that was made for it; a repeated request gets it without that."""
        name = self._shelf.name(request.parent, request.webhook_id)
        sent = request.webhook
        secrets = tuple(sent.secrets) or (new_secret(),)
        webhook = _owned(_read(sent))
        await self._rules.check(name, webhook, secrets)
        body = msgspec.structs.replace(webhook, sealed=self._sealed(name, secrets))
        entry = await self._shelf.create(name, sent, request, body, validate_only=request.validate_only)
        message = _addressed(self._shelf.message(entry))
        if not sent.secrets and not request.validate_only and entry.body.sealed == body.sealed:
            message.generated_secret = secrets[0]
        return message

    async def UpdateWebhook(self, request: pb.UpdateWebhookRequest, _: Context) -> pb.Webhook:
        """A changed webhook, whose runs are its changer's from now on; secrets that are sent replace all others."""
        sent = request.webhook
        current = await self._catalogue.get(Webhook, sent.name)
        fields = masked_fields(sent, request.update_mask, _CHANGEABLE)
        read = _read(sent)
        own = [_BODY_FIELDS.get(field, field) for field in fields - {"labels", "secrets"}]
        changed = msgspec.structs.replace(current.body, **{field: getattr(read, field) for field in own})
        secrets = tuple(sent.secrets) if "secrets" in fields else self._opened(current)
        if not secrets:
            raise InvalidError("webhook.secrets", "must hold one at least; leave it out to keep those that there are")
        await self._rules.check(sent.name, changed, secrets)
        body = _owned(changed)
        if "secrets" in fields:
            body = msgspec.structs.replace(body, sealed=self._sealed(sent.name, secrets))

        def change(entry: Entry[Webhook]) -> Entry[Webhook]:
            labels = dict(sent.labels) if "labels" in fields else entry.labels
            return replace(entry, body=body, labels=labels)

        etag = sent.etag or self._shelf.message(current).etag  # what was checked is what is replaced
        updated = await self._catalogue.update(Webhook, sent.name, etag, change, validate_only=request.validate_only)
        return _addressed(self._shelf.message(updated))

    async def DeleteWebhook(self, request: pb.DeleteWebhookRequest, _: Context) -> empty_pb2.Empty:
        """One webhook less."""
        await self._shelf.delete(request.name, request.etag)
        return empty_pb2.Empty()

    async def TestWebhook(self, request: pb.TestWebhookRequest, _: Context) -> pb.TestWebhookResponse:
        """What a request would become."""
        entry = await self._catalogue.get(Webhook, request.name)
        headers = {name.lower(): text for name, text in request.headers.items()}
        given, dedupe = await self._receiver.test(entry, headers, request.body)
        answer = pb.TestWebhookResponse(dedupe=dedupe)
        json_format.ParseDict(given, answer.input)
        return answer

    async def ReceiveWebhook(self, request: pb.ReceiveWebhookRequest, context: Context) -> pb.ReceiveWebhookResponse:
        """A request accepted, whatever happens to its run later."""
        if self._receiving >= self._at_once:
            raise WebhookBusyError("too much is sent to webhooks at once; send it again", retry_after_s=1.0)
        self._receiving += 1
        try:
            entry = await self._catalogue.get(Webhook, request.name)
            headers = _headers(context, request.body.content_type)
            run = await self._receiver.receive(entry, headers, request.body.data)
        except NotFoundError:
            raise WebhookUnknownError from None
        finally:
            self._receiving -= 1
        return pb.ReceiveWebhookResponse(run=run)

    def _sealed(self, name: str, secrets: tuple[str, ...]) -> str:
        numbered = {str(at): secret for at, secret in enumerate(dict.fromkeys(secrets))}
        return self._vault.seal(tenant_of(name), name, numbered)

    def _opened(self, entry: Entry[Webhook]) -> tuple[str, ...]:
        return tuple(self._vault.open(tenant_of(entry.name), entry.name, entry.body.sealed).values())


def _headers(context: Context, content_type: str) -> dict[str, str]:
    """The request's headers as its sender has sent them; several of one name are joined, as HTTP has it."""
    found: dict[str, str] = {"content-type": content_type} if content_type else {}
    for name, value in context.invocation_metadata() or ():
        if isinstance(value, str) and name not in _OURS and not name.startswith(_OURS_BEGIN):
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _owned(webhook: Webhook) -> Webhook:
    """A webhook whose runs are on behalf of whoever asks for it now."""
    caller = current_caller()
    return msgspec.structs.replace(webhook, subject=caller.subject, role=caller.role, uid=caller.uid)


def _addressed(message: pb.Webhook) -> pb.Webhook:
    message.path = f"/v1/{message.name}:receive"
    return message


def _show(body: Webhook) -> pb.Webhook:
    signing = body.signing
    message = pb.Webhook(
        agent=body.agent, input=body.input, dedupe=body.dedupe, disabled=body.disabled, requester=body.subject
    )
    message.signature.MergeFrom(pb.WebhookSignature(**msgspec.structs.asdict(signing)))
    tolerance = duration_pb2.Duration()
    tolerance.FromNanoseconds(round(body.tolerance_s * 1e9))
    message.tolerance.CopyFrom(tolerance)
    return message


def _read(message: pb.Webhook) -> Webhook:
    given = message.HasField("tolerance")
    return Webhook(
        agent=message.agent,
        signing=_signing(message.signature),
        input=message.input,
        dedupe=message.dedupe,
        tolerance_s=float(message.tolerance.ToTimedelta().total_seconds()) if given else DEFAULT_TOLERANCE_S,
        disabled=message.disabled,
    )


def _signing(message: pb.WebhookSignature) -> Signing:
    scheme = pb.WebhookSignature.Scheme.Name(message.scheme)
    return Signing(
        "STANDARD" if scheme == "SCHEME_UNSPECIFIED" else scheme,
        message.header.lower(),
        message.prefix,
        message.timestamp_header.lower(),
        message.content,
    )
