"""What models are to the commands that look at them or ask them."""

from __future__ import annotations

from tiation.engine.v1 import model_pb2 as pb
from tiation.engine.v1 import model_pb2_grpc

from cli.commands.model_words import aliases_of, policy_of
from cli.resources import Kind
from mesh.errors import Code, TiationError

__all__ = ["KIND", "SHIPPED_OF", "ShippedError"]

SHIPPED_OF = "system"
"""The tenant whose models ship with the platform; all others may ask them, and nobody changes them."""


class ShippedError(TiationError):
    """What ships with the platform cannot be changed through it."""

    code = Code.FAILED_PRECONDITION
    reason = "MODEL_READ_ONLY"


def _refuse_shipped(owner: str, name: str) -> None:
    if owner == SHIPPED_OF:
        raise ShippedError(f"{name} ships with the platform and stays as it is", resource=name)


KIND = Kind(
    pb, model_pb2_grpc.ModelServiceStub, "Model", "model", "models", "models",
    ("model", "newest", "serving", "policy", "aliases"),
    lambda model: (
        model.name, model.latest_version, model.serving_version or "-", policy_of(model), aliases_of(model) or "-"
    ),
    refuse=_refuse_shipped,
    none_yet="The tenant has no models of its own; `tiation models list --tenant system` shows those that ship.",
)  # fmt: skip
