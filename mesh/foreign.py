"""The services that cannot carry our method options, and what holds for their methods instead.

Health, reflection and the Open Inference Protocol belong to others; what they would say about access and records
stands in this one table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tiation.mesh.v1 import options_pb2

__all__ = ["FOREIGN", "ForeignMethod"]

_READ = options_pb2.Record.READ
_EXECUTE = options_pb2.Record.EXECUTE
_WRITE = options_pb2.Record.WRITE
_NONE = options_pb2.Record.NONE


@dataclass(frozen=True, slots=True)
class ForeignMethod:
    """What a method's options would say.

    Attributes:
        permission: what the caller must be allowed; empty where none is needed.
        template: the resource, from the caller's tenant and the request's own field; empty for the tenant itself.
        whole: whether an empty field stands for the tenant itself.
        callers: services that may call it or pass a user on.
        anyone: true where a peer of the mesh needs no user.
        category: how the call is recorded.
    """

    permission: str = ""
    template: str = ""
    whole: bool = False
    callers: frozenset[str] = frozenset()
    anyone: bool = True
    category: int = _NONE


def _tenant(permission: str, category: int) -> ForeignMethod:
    return ForeignMethod(permission=permission, anyone=False, category=category)


def _model(permission: str, field: str, category: int, *, whole: bool = False) -> ForeignMethod:
    return ForeignMethod(
        permission=permission,
        template=f"tenants/{{tenant}}/models/{{{field}}}",
        whole=whole,
        callers=frozenset({"orchestrator"}),
        anyone=False,
        category=category,
    )


FOREIGN: Mapping[str, Mapping[str, ForeignMethod]] = {
    "grpc.health.v1.Health": {},
    "grpc.reflection.v1alpha.ServerReflection": {},
    "grpc.reflection.v1.ServerReflection": {},
    "inference.GRPCInferenceService": {
        "ServerLive": ForeignMethod(),
        "ServerReady": ForeignMethod(),
        "ServerMetadata": ForeignMethod(),
        "ModelReady": _model("engine.models.get", "name", _READ),
        "ModelMetadata": _model("engine.models.get", "name", _READ),
        "ModelInfer": _model("engine.models.infer", "model_name", _EXECUTE),
        "ModelStreamInfer": _model("engine.models.infer", "model_name", _EXECUTE),
        "ModelConfig": _model("engine.models.get", "name", _READ),
        "ModelStatistics": _model("engine.models.get", "name", _READ, whole=True),
        "RepositoryIndex": _tenant("engine.models.list", _READ),
        "RepositoryModelLoad": _model("engine.models.load", "model_name", _WRITE),
        "RepositoryModelUnload": _model("engine.models.load", "model_name", _WRITE),
        "SystemSharedMemoryStatus": _tenant("engine.models.infer", _READ),
        "SystemSharedMemoryRegister": _tenant("engine.models.infer", _EXECUTE),
        "SystemSharedMemoryUnregister": _tenant("engine.models.infer", _EXECUTE),
        "CudaSharedMemoryStatus": _tenant("engine.models.infer", _READ),
        "CudaSharedMemoryRegister": _tenant("engine.models.infer", _EXECUTE),
        "CudaSharedMemoryUnregister": _tenant("engine.models.infer", _EXECUTE),
        "TraceSetting": ForeignMethod(),
        "LogSettings": ForeignMethod(),
    },
}
