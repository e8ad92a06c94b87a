"""`records`: who did what."""

from __future__ import annotations

import click
from tiation.security.v1 import record_pb2, record_pb2_grpc

from cli.client import TIMEOUT_S, connect
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import as_json, print_json, print_table
from mesh.errors import Code

__all__ = ["records"]


@click.group()
def records() -> None:
    """See who called what, and how it ended."""


@records.command("list")
@click.option("--service", default="", help="Only calls of this service.")
@click.option("--outcome", default="", help="Only calls that ended so: OK, PERMISSION_DENIED, …")
@click.option("--subject", default="", help="Only calls on behalf of this principal.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@tenant_option
@home_option
@output_option
def list_records(home: Home, tenant: str, service: str, outcome: str, subject: str, limit: int, output: str) -> None:
    """List the newest records.

    \b
    Example:
      tiation records list --outcome PERMISSION_DENIED
    """  # noqa: D301 -- \b is click's
    request = record_pb2.ListRecordsRequest(
        parent=f"tenants/{tenant}", service=service, outcome=outcome, subject=subject, page_size=limit
    )
    with connect(home, record_pb2_grpc.RecordServiceStub, tenant) as stub:
        answer = stub.ListRecords(request, timeout=TIMEOUT_S)
    # They come in the order in which security heard of them, and services tell it side by side.
    newest_first = sorted(answer.records, key=lambda record: record.call.start_time.ToNanoseconds(), reverse=True)
    if output == "json":
        print_json([as_json(record) for record in newest_first])
        return
    rows = []
    for record in newest_first:
        call = record.call
        ended = "OK" if not call.code else f"{Code(call.code).name} ({call.reason})"
        who = call.subject.rsplit("/", 1)[-1] + (f" by {call.actor.rsplit('/', 1)[-1]}" if call.actor else "")
        rows.append((call.start_time.ToJsonString()[:23], who, call.method.rsplit(".", 1)[-1], call.resource, ended))
    print_table(("time", "who", "what", "resource", "ended"), rows)
