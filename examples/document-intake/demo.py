"""Document intake: sends documents to an agent, answers what it asks of a person, shows what was filed and who decided.

`make demo` runs it beside the other examples; `.venv/bin/python examples/document-intake/demo.py` runs it alone.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from rich.table import Table
from tiation.orchestrator.v1 import approval_pb2, approval_pb2_grpc, run_pb2, run_pb2_grpc

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from examples.driver import DemoPlatform, follow_to_end, main  # noqa: E402 -- needs the path above

TENANT = "tenants/default"
AGENT = f"{TENANT}/agents/document-intake"
SCHEMA = """
CREATE TABLE documents (id TEXT NOT NULL, kind TEXT NOT NULL, amount REAL NOT NULL, book TEXT NOT NULL,
                        status TEXT NOT NULL, decided_by TEXT NOT NULL, comment TEXT NOT NULL)
"""
PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Sent:
    """A document and the run that deals with it."""

    document: dict[str, Any]
    run: str


def show(platform: DemoPlatform) -> bool:
    """Run the example; true when a person was asked about the right documents, and each was filed once as decided."""
    register = platform.database("documents.db", SCHEMA)
    platform.deploy(
        {
            "model document-kinds": ("models", "push", str(HERE / "document-kinds")),
            "decision intake-rules": ("decisions", "push", str(HERE / "intake-rules.json")),
            "connection document-register": ("connections", "apply", str(HERE / "register.yaml")),
            "agent document-intake": ("agents", "apply", str(HERE / "agent.yaml")),
        }
    )
    with platform.channel() as channel:
        runs = run_pb2_grpc.RunServiceStub(channel)
        sent = [send(runs, document) for document in json.loads((HERE / "documents.json").read_text())]
        asked = answer_all(platform, channel, sent)
        outputs = [follow_to_end(runs, each.run) for each in sent]
    return report(platform, sent, outputs, asked) and filed(platform, sent, register)


def send(runs: run_pb2_grpc.RunServiceStub, document: dict[str, Any]) -> Sent:
    """Start a run for a document."""
    run = run_pb2.Run()
    json_format.ParseDict({"id": document["id"], "text": document["text"]}, run.input)
    return Sent(document, runs.CreateRun(run_pb2.CreateRunRequest(parent=AGENT, run=run), timeout=30).name)


def answer_all(platform: DemoPlatform, channel: grpc.Channel, sent: list[Sent]) -> set[str]:
    """Answer as the person in charge would, the first by the command, the rest by RPC; which documents it was about."""
    by_run = {each.run: each.document for each in sent}
    approvals = approval_pb2_grpc.ApprovalServiceStub(channel)
    asked = settled(approvals, run_pb2_grpc.RunServiceStub(channel), sent)
    platform.console.print(f"The agent asks a person about {len(asked)} of {len(sent)} documents:")
    for number, approval in enumerate(asked):
        document = by_run[approval.run]
        outcome, comment = document.get("answer", "reject"), document.get("comment", "")
        if number == 0:
            name = approval.name.rsplit("/", 1)[-1]
            platform.command("approvals", "answer", name, f"--{outcome}", "--comment", comment)
        else:
            request = approval_pb2.SubmitInputRequest(name=approval.run, outcome=outcome, comment=comment)
            approvals.SubmitInput(request, timeout=30)
        said = f" ({comment})" if comment else ""
        platform.console.print(f"  {approval.title} {approval.description} -> {outcome}{said}")
    return {by_run[approval.run]["id"] for approval in asked}


def settled(
    approvals: approval_pb2_grpc.ApprovalServiceStub, runs: run_pb2_grpc.RunServiceStub, sent: list[Sent]
) -> list[approval_pb2.Approval]:
    """Wait until every run has ended or asks a person; what is asked, in the order of the documents."""
    deadline = time.monotonic() + PATIENCE_S
    under_way = {each.run for each in sent}
    while under_way:
        if time.monotonic() > deadline:
            sys.exit(f"after {PATIENCE_S} s these runs have neither ended nor asked: {', '.join(sorted(under_way))}")
        for name in sorted(under_way):
            state = runs.GetRun(run_pb2.GetRunRequest(name=name), timeout=30).state
            if state not in (run_pb2.Run.QUEUED, run_pb2.Run.RUNNING):
                under_way.discard(name)
        time.sleep(0.05)
    order = {each.run: number for number, each in enumerate(sent)}
    waiting = approvals.ListApprovals(approval_pb2.ListApprovalsRequest(parent=TENANT), timeout=30).approvals
    return sorted((each for each in waiting if each.run in order), key=lambda each: order[each.run])


def report(platform: DemoPlatform, sent: list[Sent], outputs: list[dict[str, Any]], asked: set[str]) -> bool:
    """Print the table and what matched; true when nobody was asked or passed over by mistake."""
    table = Table(title="Document intake")
    for heading in ("document", "kind", "amount", "book", "status", "decided by"):
        table.add_column(heading, justify="right" if heading == "amount" else "left")
    matched = 0
    for each, output in zip(sent, outputs, strict=True):
        hit = (output["kind"], output["amount"]) == (each.document["kind"], each.document["amount"])
        matched += hit
        kind = output["kind"] if hit else f"{output['kind']} (not {each.document['kind']})"
        by = output["by"].rsplit("/", 1)[-1]
        cells = (kind, f"{output['amount']:,.2f}", output["book"], output["status"], by)
        table.add_row(each.document["id"], *cells)
    platform.console.print(table)
    platform.console.print(
        f"{matched} of {len(sent)} documents were understood as they are ({matched / len(sent):.0%})."
    )
    return asked == {each.document["id"] for each in sent if each.document["asks"]}


def filed(platform: DemoPlatform, sent: list[Sent], register: Path) -> bool:
    """Whether the register holds each document once, with the status that the rules or the person gave it."""
    with sqlite3.connect(register) as database:
        rows = database.execute("SELECT id, status FROM documents ORDER BY id").fetchall()
    database.close()
    accepted = sum(status == "accepted" for _, status in rows)
    platform.console.print(f"The register holds {len(rows)} documents, {accepted} accepted.")
    return rows == sorted((each.document["id"], each.document["status"]) for each in sent)


if __name__ == "__main__":
    sys.exit(main(__doc__, show))
