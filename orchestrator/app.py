"""The orchestrator's composition root."""

from __future__ import annotations

from tiation.orchestrator.v1 import agent_pb2_grpc, revision_pb2_grpc, run_pb2_grpc

from mesh.entry_store import EntryStore
from mesh.service import Mesh, Service
from orchestrator.adapters.grpc_calls import GrpcCalls, ModelInputs
from orchestrator.agents import Agents
from orchestrator.ends import record_of
from orchestrator.executor import Executor, Limits
from orchestrator.flow.check import FlowChecker
from orchestrator.notices import Notices
from orchestrator.servicers.agents import AgentServicer
from orchestrator.servicers.revisions import RevisionServicer
from orchestrator.servicers.runs import RunServicer
from orchestrator.store import RunStore

__all__ = ["build"]


async def build(mesh: Mesh) -> Service:
    """Wire the service."""
    settings = mesh.settings.orchestrator
    runs = RunStore(lambda transaction, end: mesh.recorder.note(transaction, record_of(end)))
    agents = Agents(mesh.database, EntryStore(), runs)
    notices = Notices()
    models = ModelInputs()
    executor = Executor(
        mesh.database,
        runs,
        agents.flow_of,
        lambda run: GrpcCalls(mesh.channels, run, models),
        mesh.sandbox,
        notices,
        Limits(settings.max_concurrent_runs, settings.lease_s, settings.step_budget),
    )

    async def drain() -> None:
        notices.close()
        await executor.drain()

    return Service(
        servicers=(
            (
                agent_pb2_grpc.add_AgentServiceServicer_to_server,
                AgentServicer(agents, mesh.pages, FlowChecker(mesh.sandbox)),
            ),
            (revision_pb2_grpc.add_RevisionServiceServicer_to_server, RevisionServicer(agents, mesh.pages)),
            (
                run_pb2_grpc.add_RunServiceServicer_to_server,
                RunServicer(agents, mesh.database, runs, executor, notices, mesh.pages),
            ),
        ),
        start=executor.start,
        drain=drain,
        stop=executor.stop,
    )
