"""`webhooks`: the addresses to which other systems send what has happened."""

from __future__ import annotations

import json
from pathlib import Path

import click
from tiation.integration.v1 import webhook_pb2 as pb
from tiation.integration.v1 import webhook_pb2_grpc

from cli.apply import bring, say_applied
from cli.client import TIMEOUT_S, connect, pages
from cli.document import open_document, read_text
from cli.home import Home
from cli.options import full_name, home_option, output_option, split_name, tenant_option
from cli.output import as_json, print_json, print_one, print_table
from cli.places import check_names, placed

__all__ = ["webhooks"]

_FIELDS = ["agent", "signature", "input", "dedupe", "tolerance", "disabled", "labels"]


@click.group()
def webhooks() -> None:
    """Let other systems start runs."""


@webhooks.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="SECRET",
    help="A secret of the sender's; @PATH reads it from a file. May be given several times while it is changed.",
)
@tenant_option
@home_option
@output_option
def apply(file: Path, secrets: tuple[str, ...], home: Home, tenant: str, output: str) -> None:
    """Create the webhook that FILE describes, or update it to that.

    A new one without a secret gets one, which is printed this once. Secrets that are given replace all others.

    \b
    Example:
      tiation webhooks apply github.yaml --secret @secret.txt
    """  # noqa: D301 -- \b is click's
    document = open_document(file)
    owner, webhook_id = split_name(tenant, "webhooks", document.id_at("name", what="webhook"))
    check_names(file, pb.Webhook.DESCRIPTOR, also=frozenset({"name"}))
    wanted = document.fill(pb.Webhook(), without="name")
    wanted.secrets.extend(_secret(each) for each in secrets)
    wanted.name = full_name(owner, "webhooks", webhook_id)
    if wanted.agent:
        wanted.agent = full_name(owner, "agents", wanted.agent)
    creation = pb.CreateWebhookRequest(parent=f"tenants/{owner}", webhook_id=webhook_id, webhook=wanted)

    def change(paths: list[str], *, validate_only: bool = False) -> pb.UpdateWebhookRequest:
        return pb.UpdateWebhookRequest(webhook=wanted, update_mask={"paths": paths}, validate_only=validate_only)

    with placed(file, "webhook"), connect(home, webhook_pb2_grpc.WebhookServiceStub, owner) as stub:
        found, what = bring(
            wanted,
            _FIELDS,
            get=lambda: stub.GetWebhook(pb.GetWebhookRequest(name=wanted.name), timeout=TIMEOUT_S),
            create=lambda: stub.CreateWebhook(creation, timeout=TIMEOUT_S),
            update=lambda paths: stub.UpdateWebhook(change(paths), timeout=TIMEOUT_S),
            preview=lambda paths: stub.UpdateWebhook(change(paths, validate_only=True), timeout=TIMEOUT_S),
            secret=["secrets"],
        )
    say_applied(found, what, output)
    if output == "table" and what == "created":
        click.echo(f"send to  {_url(home, found)}")
    if output == "table" and found.generated_secret:
        click.echo(f"secret   {found.generated_secret}\nIt is not shown again.")


@webhooks.command("list")
@tenant_option
@home_option
@output_option
def list_webhooks(home: Home, tenant: str, output: str) -> None:
    """List the webhooks.

    \b
    Example:
      tiation webhooks list
    """  # noqa: D301 -- \b is click's
    request = pb.ListWebhooksRequest(parent=f"tenants/{tenant}")
    with connect(home, webhook_pb2_grpc.WebhookServiceStub, tenant) as stub:
        found = list(pages(stub.ListWebhooks, request, "webhooks"))
    if output == "json":
        print_json([as_json(webhook) for webhook in found])
        return
    rows = [(each.name, each.agent, _scheme(each), "disabled" if each.disabled else "enabled") for each in found]
    print_table(("webhook", "agent", "signature", "state"), rows)


@webhooks.command()
@click.argument("webhook")
@tenant_option
@home_option
@output_option
def get(webhook: str, home: Home, tenant: str, output: str) -> None:
    """Show one webhook and where to send to.

    \b
    Example:
      tiation webhooks get github
    """  # noqa: D301 -- \b is click's
    owner, webhook_id = split_name(tenant, "webhooks", webhook)
    with connect(home, webhook_pb2_grpc.WebhookServiceStub, owner) as stub:
        request = pb.GetWebhookRequest(name=full_name(owner, "webhooks", webhook_id))
        found = stub.GetWebhook(request, timeout=TIMEOUT_S)
    state = "disabled" if found.disabled else "enabled"
    lines = f"{found.name}  {state}\nagent    {found.agent}\nsigned   {_scheme(found)}\nsend to  {_url(home, found)}"
    print_one(found, output, lines)


@webhooks.command()
@click.argument("webhook")
@tenant_option
@home_option
@output_option
def delete(webhook: str, home: Home, tenant: str, output: str) -> None:
    """Delete one webhook; what it has accepted before is still started.

    \b
    Example:
      tiation webhooks delete github
    """  # noqa: D301 -- \b is click's
    owner, webhook_id = split_name(tenant, "webhooks", webhook)
    name = full_name(owner, "webhooks", webhook_id)
    with connect(home, webhook_pb2_grpc.WebhookServiceStub, owner) as stub:
        stub.DeleteWebhook(pb.DeleteWebhookRequest(name=name), timeout=TIMEOUT_S)
    click.echo(json.dumps({"deleted": name}) if output == "json" else f"{name} deleted")


@webhooks.command()
@click.argument("webhook")
@click.option("--body", default="", metavar="TEXT", help="The body of a request; @PATH reads it from a file.")
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="One of its headers.")
@tenant_option
@home_option
@output_option
def test(webhook: str, body: str, headers: tuple[str, ...], home: Home, tenant: str, output: str) -> None:
    """Print the run's input that a request would become; nothing is started, and no signature is needed.

    \b
    Example:
      tiation webhooks test github --body @push.json --header "content-type: application/json"
    """  # noqa: D301 -- \b is click's
    owner, webhook_id = split_name(tenant, "webhooks", webhook)
    request = pb.TestWebhookRequest(name=full_name(owner, "webhooks", webhook_id))
    request.body = Path(body[1:]).read_bytes() if body.startswith("@") else body.encode()
    request.headers.update(_header(each) for each in headers)
    with connect(home, webhook_pb2_grpc.WebhookServiceStub, owner) as stub:
        found = stub.TestWebhook(request, timeout=TIMEOUT_S)
    print_json(as_json(found) if output == "json" else as_json(found)["input"])


def _url(home: Home, webhook: pb.Webhook) -> str:
    return f"{home.gateway()['url']}{webhook.path}"


def _scheme(webhook: pb.Webhook) -> str:
    return pb.WebhookSignature.Scheme.Name(webhook.signature.scheme)


def _secret(text: str) -> str:
    return read_text(Path(text[1:])).rstrip("\r\n") if text.startswith("@") else text


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not name or not colon:
        raise click.UsageError("--header must read NAME:VALUE")
    return name.strip(), value.strip()
