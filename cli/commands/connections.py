"""`connections`: the systems that agents act on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from tiation.integration.v1 import connection_pb2 as pb
from tiation.integration.v1 import connection_pb2_grpc

from cli.apply import bring, read_document, read_text, say_applied
from cli.client import TIMEOUT_S, FileError, connect, pages, parse
from cli.home import Home
from cli.options import full_name, home_option, output_option, split_name, tenant_option
from cli.output import as_json, print_json, print_one, print_table
from cli.places import check_names, placed

__all__ = ["connections"]


@click.group()
def connections() -> None:
    """Bring connections and test them."""


@connections.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--credential",
    "credentials",
    multiple=True,
    metavar="NAME=VALUE",
    help="A credential besides those in FILE; @PATH reads the value from a file. May be given several times.",
)
@tenant_option
@home_option
@output_option
def apply(file: Path, credentials: tuple[str, ...], home: Home, tenant: str, output: str) -> None:
    """Create the connection that FILE describes, or update it to that.

    Credentials that are not named stay as they are.

    \b
    Example:
      tiation connections apply crm.yaml
      tiation connections apply shop.yaml --credential client_secret=@secret.txt
    """  # noqa: D301 -- \b is click's
    document = read_document(file)
    name = str(document.pop("name", "") or "")
    if not name:
        raise FileError(f"{file}: name is missing", file=file)
    owner, connection_id = split_name(tenant, "connections", name)
    check_names(file, pb.Connection.DESCRIPTOR, also=frozenset({"name"}))
    wanted = parse(document, pb.Connection(), str(file))
    wanted.credentials.update(_credential(each) for each in credentials)
    wanted.name = full_name(owner, "connections", connection_id)
    creation = pb.CreateConnectionRequest(parent=f"tenants/{owner}", connection_id=connection_id, connection=wanted)

    def change(paths: list[str], *, validate_only: bool = False) -> pb.UpdateConnectionRequest:
        return pb.UpdateConnectionRequest(connection=wanted, update_mask={"paths": paths}, validate_only=validate_only)

    with placed(file, "connection"), connect(home, connection_pb2_grpc.ConnectionServiceStub, owner) as stub:
        found, what = bring(
            wanted,
            ["connector", "config", "operations", "retry", "labels"],
            get=lambda: stub.GetConnection(pb.GetConnectionRequest(name=wanted.name), timeout=TIMEOUT_S),
            create=lambda: stub.CreateConnection(creation, timeout=TIMEOUT_S),
            update=lambda paths: stub.UpdateConnection(change(paths), timeout=TIMEOUT_S),
            preview=lambda paths: stub.UpdateConnection(change(paths, validate_only=True), timeout=TIMEOUT_S),
            secret=["credentials"],
        )
    say_applied(found, what, output)


@connections.command("list")
@tenant_option
@home_option
@output_option
def list_connections(home: Home, tenant: str, output: str) -> None:
    """List the connections.

    \b
    Example:
      tiation connections list
    """  # noqa: D301 -- \b is click's
    request = pb.ListConnectionsRequest(parent=f"tenants/{tenant}")
    with connect(home, connection_pb2_grpc.ConnectionServiceStub, tenant) as stub:
        found = list(pages(stub.ListConnections, request, "connections"))
    if output == "json":
        print_json([as_json(connection) for connection in found])
        return
    rows = [(c.name, c.connector, ", ".join(o.operation_id for o in c.operations)) for c in found]
    print_table(("connection", "connector", "operations"), rows)


@connections.command()
@click.argument("connection")
@tenant_option
@home_option
@output_option
def test(connection: str, home: Home, tenant: str, output: str) -> None:
    """Reach for the system; exits 1 when it does not answer.

    \b
    Example:
      tiation connections test crm
    """  # noqa: D301 -- \b is click's
    owner, connection_id = split_name(tenant, "connections", connection)
    name = full_name(owner, "connections", connection_id)
    with connect(home, connection_pb2_grpc.ConnectionServiceStub, owner) as stub:
        found = stub.TestConnection(pb.TestConnectionRequest(name=name), timeout=TIMEOUT_S)
    print_one(found, output, f"{name}: {'works' if found.ok else 'does not work'}: {found.detail}")
    if not found.ok:
        raise click.exceptions.Exit(1)


@connections.command()
@click.argument("connection")
@click.argument("operation")
@click.option("--input", "given", default="null", metavar="JSON", help="What it is given; @FILE reads a file.")
@click.option("--key", default="", help="Names the effect: the same key again returns the first answer.")
@tenant_option
@home_option
@output_option
def invoke(connection: str, operation: str, given: str, key: str, home: Home, tenant: str, output: str) -> None:
    """Carry out an OPERATION of a CONNECTION and print what it answers, which is JSON.

    With --output json it also says whether that was the first answer, and after how many attempts it came.

    \b
    Example:
      tiation connections invoke crm listTickets
    """  # noqa: D301 -- \b is click's
    owner, connection_id = split_name(tenant, "connections", connection)
    name = full_name(owner, "connections", connection_id)
    request = pb.InvokeRequest(name=name, operation_id=operation, effect_key=key)
    parse(_json(given), request.input, "--input")
    with connect(home, connection_pb2_grpc.ConnectionServiceStub, owner) as stub:
        answer = stub.Invoke(request, timeout=TIMEOUT_S)
    print_json(as_json(answer) if output == "json" else as_json(answer)["output"])


def _json(text: str) -> Any:  # noqa: ANN401 -- any JSON
    try:
        return json.loads(read_text(Path(text[1:])) if text.startswith("@") else text)
    except ValueError as error:
        raise click.UsageError(f"--input is no JSON: {error}") from None


def _credential(text: str) -> tuple[str, str]:
    """A credential's name and value from the command line."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError("--credential must read NAME=VALUE or NAME=@PATH")
    return name, read_text(Path(value[1:])).rstrip("\r\n") if value.startswith("@") else value
