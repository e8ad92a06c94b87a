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
_NONE = options_pb2.Record.NONE


@dataclass(frozen=True, slots=True)
class ForeignMethod:
    """What a method's options would say.

    Attributes:
        permission: what the caller must be allowed; empty where none is needed.
        template: the resource, from the caller's tenant and the request's own field.
        callers: services that may call it or pass a user on.
        anyone: true where a peer of the mesh needs no user.
        category: how the call is recorded.
    """

    permission: str = ""
    template: str = ""
    callers: frozenset[str] = frozenset()
    anyone: bool = True
    category: int = _NONE


def _model(permission: str, field: str, category: int) -> ForeignMethod:
    return ForeignMethod(
        permission=permission,
        template=f"tenants/{{tenant}}/models/{{{field}}}",
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
    },
}
