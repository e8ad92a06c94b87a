"""`connections`: the systems that agents act on."""

from __future__ import annotations

from pathlib import Path

import click
import grpc
from tiation.integration.v1 import connection_pb2 as pb
from tiation.integration.v1 import connection_pb2_grpc

from cli.apply import read_document, say_applied
from cli.client import TIMEOUT_S, FileError, connect, pages, parse
from cli.home import Home
from cli.options import full_name, home_option, output_option, tenant_option
from cli.output import as_json, print_json, print_one, print_table

__all__ = ["connections"]


@click.group()
def connections() -> None:
    """Bring connections and test them."""


@connections.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@tenant_option
@home_option
@output_option
def apply(file: Path, home: Home, tenant: str, output: str) -> None:
    """Create the connection that FILE describes, or change it to that. Example: tiation connections apply crm.yaml"""
    document = read_document(file)
    name = str(document.pop("name", "") or "")
    if not name:
        raise FileError(f"{file}: name is missing", file=file)
    wanted = parse(document, pb.Connection(), str(file))
    wanted.name = full_name(tenant, "connections", name)
    with connect(home, connection_pb2_grpc.ConnectionServiceStub) as stub:
        try:
            current = stub.GetConnection(pb.GetConnectionRequest(name=wanted.name), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            request = pb.CreateConnectionRequest(parent=f"tenants/{tenant}", connection_id=name, connection=wanted)
            say_applied(stub.CreateConnection(request, timeout=TIMEOUT_S), "created", output)
            return
        wanted.etag = current.etag
        fields = [field.name for field, _ in wanted.ListFields() if field.name not in ("name", "etag", "connector")]
        update = pb.UpdateConnectionRequest(connection=wanted, update_mask={"paths": fields})
        say_applied(stub.UpdateConnection(update, timeout=TIMEOUT_S), "changed", output)


@connections.command("list")
@tenant_option
@home_option
@output_option
def list_connections(home: Home, tenant: str, output: str) -> None:
    """List the connections. Example: tiation connections list"""
    request = pb.ListConnectionsRequest(parent=f"tenants/{tenant}")
    with connect(home, connection_pb2_grpc.ConnectionServiceStub) as stub:
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
    """Reach for the system; exits 1 when it does not answer. Example: tiation connections test crm"""
    name = full_name(tenant, "connections", connection)
    with connect(home, connection_pb2_grpc.ConnectionServiceStub) as stub:
        found = stub.TestConnection(pb.TestConnectionRequest(name=name), timeout=TIMEOUT_S)
    print_one(found, output, f"{name}: {'works' if found.ok else 'does not work'}: {found.detail}")
    if not found.ok:
        raise click.exceptions.Exit(1)
