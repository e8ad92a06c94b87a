"""What models are to the commands that look at them or ask them."""

from __future__ import annotations

from tiation.engine.v1 import model_pb2 as pb
from tiation.engine.v1 import model_pb2_grpc

from cli.commands.model_words import aliases_of, policy_of
from cli.resources import Kind

__all__ = ["KIND"]

KIND = Kind(
    pb, model_pb2_grpc.ModelServiceStub, "Model", "model", "models", "models",
    ("model", "newest", "serving", "policy", "aliases"),
    lambda model: (
        model.name, model.latest_version, model.serving_version or "-", policy_of(model), aliases_of(model)
    ),
)  # fmt: skip
