"""Which model a name means to a command that asks or looks: the tenant's own, or else one that ships with the platform.

The Open Inference Protocol and OpenAI's read a bare name in the same order. What changes a model means the tenant's.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import TypeVar

import grpc
from tiation.engine.v1 import model_pb2 as pb

from cli.client import connect, pages, refusal_of
from cli.commands.model_kind import KIND, SHIPPED_OF
from cli.home import Home
from mesh.errors import Code, TiationError

__all__ = ["NoModelError", "own_or_shipped"]

A = TypeVar("A")
_MISSING = frozenset({"MODEL_NOT_FOUND", "RESOURCE_NOT_FOUND"})


class NoModelError(TiationError):
    """There is no model of a name, and one whose name is like it."""

    code = Code.NOT_FOUND
    reason = "MODEL_NOT_FOUND"


def own_or_shipped(home: Home, tenant: str, model: str, ask: Callable[[str], A]) -> A:
    """Ask the tenant's model of a name; where it has none, the one that ships with the platform.

    Args:
        home: of the platform.
        tenant: the tenant to act in.
        model: as it was given: an id means either, a full name only itself.
        ask: asks the model of a full name; raises what the service refuses.

    Raises:
        NoModelError: there is neither, but one of a name like it.
        grpc.RpcError: what `ask` raises; of the tenant's own model where there is neither.
    """
    owner, model_id, own = KIND.split(tenant, model)
    names = [own] if owner == SHIPPED_OF or model != model_id else [own, KIND.split(SHIPPED_OF, model_id)[2]]
    missing: grpc.RpcError | None = None
    for name in names:
        try:
            return ask(name)
        except grpc.RpcError as error:
            refusal = refusal_of(error)
            if refusal is None or refusal.reason not in _MISSING:
                raise
            missing = missing or error
    near = _near(home, owner, model)
    if near:
        raise NoModelError(f"there is no model `{model}`; did you mean `{near}`?", model=model) from None
    assert missing is not None  # noqa: S101 -- every name was missing
    raise missing


def _near(home: Home, owner: str, model: str) -> str:
    """A name like the one that was given, of those that the caller may list; empty where there is none.

    A name that differs in nothing is none: the model is there, and its version is not.
    """
    bare = "/" not in model
    try:
        with connect(home, KIND.stub, owner) as stub:
            known = [
                each.name
                for tenant in dict.fromkeys((owner, SHIPPED_OF))
                for each in pages(stub.ListModels, pb.ListModelsRequest(parent=f"tenants/{tenant}"), "models")
            ]
    except grpc.RpcError:
        return ""
    wanted = model.partition(":")[0]
    names = [name.rsplit("/", 1)[1] if bare else name for name in known]
    found = get_close_matches(wanted, [name for name in names if name != wanted], n=1)
    return "" if wanted in names or not found else found[0]
