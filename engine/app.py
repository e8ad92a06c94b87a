"""The engine's composition root."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path

from inference import grpc_service_pb2_grpc
from tiation.engine.v1 import (
    bandit_pb2_grpc,
    decision_pb2_grpc,
    inference_rest_pb2_grpc,
    model_pb2_grpc,
    openai_pb2_grpc,
    prediction_pb2_grpc,
    ranking_pb2_grpc,
)

from engine.adapters.answers_in_memory import MemoryAnswers
from engine.adapters.models_in_folder import FolderStorage
from engine.adapters.models_in_s3 import S3Settings, S3Storage, s3_client
from engine.cache.answers import Answers
from engine.cache.figures import StoreFigures
from engine.cache.ports import AnswerStore
from engine.decisions.bandits.learning import Learner
from engine.decisions.bandits.resource import Bandits
from engine.decisions.graphs import Decisions
from engine.generation.figures import GenerationMetrics
from engine.gpu_figures import GpuFigures
from engine.memory_figures import MemoryFigures
from engine.metrics import EngineMetrics
from engine.oip.control import RepositoryControl
from engine.oip.shared_memory import Regions
from engine.repository.faults import Faults
from engine.repository.models import ModelCatalogue
from engine.repository.opening import Opener
from engine.repository.ports import ModelStorage
from engine.repository.shared_repository import SharedRepository
from engine.repository.sharing import Follower, Sharing
from engine.repository.signatures import Signatures
from engine.runtime.apart import Apart
from engine.runtime.budget import CoreBudget
from engine.runtime.device_memory import DeviceMemory
from engine.runtime.ledger import CPU, Ledger
from engine.runtime.memory_bound import bound_memory
from engine.runtime.sessions import SessionSettings, check_device, cores
from engine.scheduler.policy import BatchPolicy
from engine.servicers.bandits import BanditServicer
from engine.servicers.decisions import DecisionServicer
from engine.servicers.inference import InferenceServicer
from engine.servicers.inference_facts import Facts
from engine.servicers.inference_rest import InferenceRestServicer
from engine.servicers.models import ModelServicer
from engine.servicers.openai import OpenAIServicer
from engine.servicers.predictions import PredictionServicer
from engine.servicers.rankings import RankingServicer
from engine.store import BanditStore
from engine.variants.making import Variants
from mesh.config import EngineSettings
from mesh.entry_store import EntryStore
from mesh.sandbox import ImagePool
from mesh.service import Mesh, Service
from mesh.stages.access import AccessStage

__all__ = ["build"]


async def build(mesh: Mesh) -> Service:
    """Wire the service."""
    settings = mesh.settings.engine
    spans = mesh.tracer.ended if mesh.settings.tracing.endpoint else None
    reading = DeviceMemory(os.environ.get("CUDA_VISIBLE_DEVICES"))
    sessions = SessionSettings(
        settings.device,
        settings.intra_op_threads,
        settings.max_run_s,
        settings.twins,
        settings.gpu_memory_bytes,
        CoreBudget(cores()),
        Ledger(partial(_limit_of, settings, reading)),
    )
    if settings.device == "cpu":  # a GPU's driver maps more than there is
        bound_memory()
    await asyncio.to_thread(check_device, sessions)
    catalogue = ModelCatalogue(mesh.database, EntryStore())
    images = ImagePool(
        max_pixels=settings.max_image_pixels,
        max_bytes=settings.max_image_bytes,
        size=1 + max(1, cores() // 2),  # the other half of the cores is the models'
    )
    limits = BatchPolicy(settings.max_batch, settings.max_queue, settings.max_queue_bytes)
    store_figures = StoreFigures(mesh.registry)
    mesh.registry.register(MemoryFigures(sessions.ledger))
    mesh.registry.register(await asyncio.to_thread(GpuFigures))  # to wake a driver takes a while
    store = _answer_store(settings, store_figures)
    models = Path(settings.models) if settings.models else mesh.state.parent / "engine" / "models"
    keys = Path(settings.signature_keys) if settings.signature_keys else mesh.state.parent / "engine" / "signature-keys"
    faults = Faults(models / f".faults-{mesh.process}")
    repository = SharedRepository(
        models,
        Path(settings.system_models) if settings.system_models else None,
        catalogue,
        Opener(
            EngineMetrics(mesh.registry, spans),
            sessions,
            limits,
            images,
            GenerationMetrics(mesh.registry),
            mesh.sandbox,
            partial(Answers, store, store_figures),
            faults.track,
        ),
        Sharing(mesh.database, mesh.process),
        reading=reading,
        storage=await asyncio.to_thread(_model_storage, settings, models),
        signatures=Signatures(keys) if settings.signatures == "require" else None,
        apart=Apart(settings.device),
        faults=faults,
    )
    follower = Follower(mesh.database, repository.catch_up)
    background = () if mesh.database.is_sqlite else (follower.run,)  # a file has one engine
    decisions = Decisions(mesh.database, EntryStore())
    regions = Regions(settings.shared_memory)
    inference = InferenceServicer(
        repository,
        RepositoryControl(repository, catalogue),
        regions,
        Facts(
            settings.device,
            mesh.settings.log_level,
            traced=bool(mesh.settings.tracing.endpoint),
            sample_ratio=mesh.settings.tracing.sample_ratio,
        ),
    )
    bandits = Bandits(mesh.database, EntryStore(), BanditStore())

    async def start() -> None:
        faults.watch()
        await repository.start()

    async def stop() -> None:
        regions.close()
        await repository.stop()
        await store.close()
        faults.close()

    return Service(
        servicers=(
            (grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server, inference),
            (
                inference_rest_pb2_grpc.add_InferenceRestServiceServicer_to_server,
                InferenceRestServicer(inference),
            ),
            (
                openai_pb2_grpc.add_OpenAIServiceServicer_to_server,
                OpenAIServicer(repository, catalogue, AccessStage(mesh.policy)),
            ),
            (
                model_pb2_grpc.add_ModelServiceServicer_to_server,
                ModelServicer(repository, catalogue, mesh.pages, Variants(repository, catalogue, sessions)),
            ),
            (prediction_pb2_grpc.add_PredictionServiceServicer_to_server, PredictionServicer(repository)),
            (
                decision_pb2_grpc.add_DecisionServiceServicer_to_server,
                DecisionServicer(decisions, mesh.pages, mesh.sandbox),
            ),
            (ranking_pb2_grpc.add_RankingServiceServicer_to_server, RankingServicer()),
            (
                bandit_pb2_grpc.add_BanditServiceServicer_to_server,
                BanditServicer(bandits, Learner(mesh.database, bandits, BanditStore()), mesh.pages),
            ),
        ),
        start=start,
        background=background,
        stop=stop,
    )


def _limit_of(settings: EngineSettings, reading: DeviceMemory, device: str) -> int:
    """The most that all models together may take of a device's memory; 0 for any number."""
    if device == CPU:
        return settings.memory_budget_bytes
    return settings.gpu_memory_budget_bytes or reading.total(device)


def _model_storage(settings: EngineSettings, folder: Path) -> ModelStorage:
    """Where the tenants' models are kept: in S3 where that is said, else in the folder."""
    if not settings.storage:
        return FolderStorage(folder)
    client = s3_client(
        S3Settings(settings.storage_endpoint, settings.storage_region, settings.storage_key_id, settings.storage_secret)
    )
    return S3Storage(client, settings.storage, folder)


def _answer_store(settings: EngineSettings, figures: StoreFigures) -> AnswerStore:
    """Where answers are kept: in Redis where there is one, else here."""
    if settings.cache_redis:
        from engine.adapters.answers_in_redis import RedisAnswers  # its client is large, and mostly not asked for

        return RedisAnswers(
            settings.cache_redis,
            ttl_s=settings.cache_ttl_s,
            max_value_bytes=settings.cache_value_bytes,
            max_owner_bytes=settings.cache_tenant_bytes,
            figures=figures,
        )
    return MemoryAnswers(settings.cache_bytes, settings.cache_value_bytes, figures)
