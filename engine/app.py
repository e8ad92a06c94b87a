"""The engine's composition root."""

from __future__ import annotations

import asyncio
from pathlib import Path

from inference import grpc_service_pb2_grpc
from tiation.engine.v1 import decision_pb2_grpc, model_pb2_grpc

from engine.decisions import Decisions
from engine.metrics import EngineMetrics
from engine.repository import Repository
from engine.servables import BatchLimits
from engine.servicers.decisions import DecisionServicer
from engine.servicers.inference import InferenceServicer
from engine.servicers.models import ModelServicer
from engine.sessions import SessionSettings, check_device
from mesh.catalogue import Catalogue
from mesh.entry_store import EntryStore
from mesh.service import Mesh, Service

__all__ = ["build"]


async def build(mesh: Mesh) -> Service:
    """Wire the service."""
    settings = mesh.settings.engine
    sessions = SessionSettings(settings.device, settings.intra_op_threads)
    await asyncio.to_thread(check_device, sessions)
    catalogue = Catalogue(mesh.database, EntryStore())
    repository = Repository(
        mesh.state / "models",
        Path(settings.system_models) if settings.system_models else None,
        catalogue,
        EngineMetrics(mesh.registry),
        sessions,
        BatchLimits(settings.max_batch, settings.max_queue),
    )
    decisions = Decisions(mesh.database, EntryStore())
    return Service(
        servicers=(
            (grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server, InferenceServicer(repository)),
            (
                model_pb2_grpc.add_ModelServiceServicer_to_server,
                ModelServicer(repository, catalogue, mesh.pages),
            ),
            (
                decision_pb2_grpc.add_DecisionServiceServicer_to_server,
                DecisionServicer(decisions, mesh.pages, mesh.sandbox),
            ),
        ),
        start=repository.start,
        stop=repository.stop,
    )
