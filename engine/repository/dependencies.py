"""What stands on what: no model stands on itself, however many are between, and no more than a few above each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from engine.errors import EngineError, TooDeepError
from engine.manifest import Base, Manifest
from engine.servables.base import MAX_DEPTH
from mesh.resource import tenant_of

__all__ = ["check_dependencies"]


class _Standing(Protocol):
    """A version in memory."""

    @property
    def model(self) -> str:
        """Its model's full name."""

    @property
    def manifest(self) -> Manifest:
        """What it stands on."""


def check_dependencies(model: str, bases: Sequence[Base], find: Callable[[str, str, str], _Standing]) -> None:
    """See that a model may stand on others.

    A name of its own counts as the model itself, whatever answers to it now: it will once the model is loaded.

    Args:
        model: its full name.
        bases: what it stands on.
        find: finds what is in memory for a tenant.

    Raises:
        TooDeepError: it would stand on itself, or too many would stand above each other.
    """
    own = (tenant_of(model), model.rsplit("/", 1)[1])
    seen: set[tuple[str, Base, int]] = set()
    todo = [(own[0], base, 1) for base in bases]
    while todo:
        tenant, base, depth = step = todo.pop()
        if (tenant, base.model) == own or depth > MAX_DEPTH:
            raise TooDeepError(model)
        if step in seen:
            continue
        seen.add(step)
        try:
            found = find(tenant, base.model, base.version)
        except EngineError:  # it is missing, which is said better where it is needed
            continue
        todo += [(tenant_of(found.model), below, depth + 1) for below in found.manifest.stands_on]
