"""The orchestrator's composition root."""

from __future__ import annotations

from tiation.orchestrator.v1 import (
    agent_pb2_grpc,
    approval_pb2_grpc,
    revision_pb2_grpc,
    run_pb2_grpc,
    schedule_pb2_grpc,
)

from mesh.entry_store import EntryStore
from mesh.identity import Requester
from mesh.service import Mesh, Service
from mesh.uuid7 import uuid7
from orchestrator.adapters.grpc_calls import GrpcCalls, ModelInputs
from orchestrator.admission import Admission
from orchestrator.agents import Agents
from orchestrator.answering import Answering
from orchestrator.ends import record_of
from orchestrator.executor import Executor, Limits
from orchestrator.flow.check import FlowChecker
from orchestrator.gauges import RunGauges
from orchestrator.notices import Notices
from orchestrator.scheduler import Scheduler
from orchestrator.schedules import Schedules
from orchestrator.servicers.agents import AgentServicer
from orchestrator.servicers.approvals import ApprovalServicer
from orchestrator.servicers.revisions import RevisionServicer
from orchestrator.servicers.runs import RunServicer
from orchestrator.servicers.schedules import ScheduleServicer
from orchestrator.store import RunStore, ScheduleStore

__all__ = ["build"]


async def build(mesh: Mesh) -> Service:
    """Wire the service."""
    settings = mesh.settings.orchestrator
    runs = RunStore(lambda transaction, end: mesh.recorder.note(transaction, record_of(end)))
    standings = ScheduleStore()
    agents = Agents(mesh.database, EntryStore(), runs)
    notices = Notices()
    models = ModelInputs()
    limits = Limits(
        settings.max_concurrent_runs,
        settings.lease_s,
        settings.step_budget,
        settings.max_claims,
        settings.max_journal_bytes,
    )
    executor = Executor(
        mesh.database,
        runs,
        agents.flow_of_run,
        lambda run: GrpcCalls(mesh.channels, run, models),
        mesh.sandbox,
        notices,
        limits,
        mesh.tracer.ended if mesh.settings.tracing.endpoint else None,
    )
    admission = Admission(mesh.database, agents, runs, settings.max_queued_runs)

    def may(requester: Requester, permission: str, resource: str) -> bool:
        policy = mesh.policy.policy(for_write=True)
        return policy.decide(requester.subject, requester.role, permission, resource, requester.tenant).allowed

    schedules = Schedules(mesh.database, EntryStore(), standings, may)
    scheduler = Scheduler(
        mesh.database, schedules, standings, runs, admission, executor.wake,
        begin=lambda: mesh.tracer.begin("", uuid7())[0],
    )  # fmt: skip
    gauges = RunGauges(mesh.database, runs, mesh.registry)

    def heard(run: str | None) -> None:
        if run is not None:
            executor.hear(run)
            notices.tell(run)

    mesh.database.listen("runs", notices.hear)
    mesh.database.listen("answers", heard)
    mesh.database.listen("cancellations", executor.hear_cancellation)

    async def drain() -> None:
        notices.close()
        await executor.drain()

    return Service(
        servicers=(
            (
                agent_pb2_grpc.add_AgentServiceServicer_to_server,
                AgentServicer(agents, mesh.pages, FlowChecker(mesh.sandbox), executor.wake),
            ),
            (revision_pb2_grpc.add_RevisionServiceServicer_to_server, RevisionServicer(agents, mesh.pages)),
            (
                run_pb2_grpc.add_RunServiceServicer_to_server,
                RunServicer(admission, agents, mesh.database, runs, executor, notices, mesh.pages),
            ),
            (
                schedule_pb2_grpc.add_ScheduleServiceServicer_to_server,
                ScheduleServicer(schedules, scheduler, mesh.pages),
            ),
            (
                approval_pb2_grpc.add_ApprovalServiceServicer_to_server,
                ApprovalServicer(Answering(mesh.database, runs, heard), mesh.policy, mesh.pages),
            ),
        ),
        start=executor.start,
        background=(scheduler.run, gauges.run),
        drain=drain,
        stop=executor.stop,
    )
