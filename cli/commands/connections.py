"""`connections`: the systems that agents act on."""

from __future__ import annotations

from pathlib import Path

import click
from tiation.integration.v1 import connection_pb2 as pb
from tiation.integration.v1 import connection_pb2_grpc

from cli.apply import bring, say_applied
from cli.client import TIMEOUT_S, connect, parse
from cli.document import json_option, open_document, read_text
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import as_json, print_json, print_one
from cli.places import check_names, placed
from cli.resources import Kind, add_looking

__all__ = ["connections"]


def _row(connection: pb.Connection) -> tuple[object, ...]:
    return connection.name, connection.connector, ", ".join(each.operation_id for each in connection.operations)


KIND = Kind(
    pb, connection_pb2_grpc.ConnectionServiceStub, "Connection", "connection", "connections", "connections",
    ("connection", "connector", "operations"), _row,
)  # fmt: skip


@click.group()
def connections() -> None:
    """Bring connections and test them."""


add_looking(connections, KIND, "crm")


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
    document = open_document(file)
    owner, connection_id, name = KIND.split(tenant, document.id_at("name", what="connection"))
    check_names(file, pb.Connection.DESCRIPTOR, also=frozenset({"name"}))
    wanted = document.fill(pb.Connection(), without="name")
    wanted.credentials.update(_credential(each) for each in credentials)
    wanted.name = name
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
    owner, _, name = KIND.split(tenant, connection)
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
    owner, _, name = KIND.split(tenant, connection)
    request = pb.InvokeRequest(name=name, operation_id=operation, effect_key=key)
    parse(json_option(given, "--input"), request.input, "--input")
    with connect(home, connection_pb2_grpc.ConnectionServiceStub, owner) as stub:
        answer = stub.Invoke(request, timeout=TIMEOUT_S)
    print_json(as_json(answer) if output == "json" else as_json(answer)["output"])


def _credential(text: str) -> tuple[str, str]:
    """A credential's name and value from the command line."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError("--credential must read NAME=VALUE or NAME=@PATH")
    return name, read_text(Path(value[1:])).rstrip("\r\n") if value.startswith("@") else value
