"""By what facts are kept apart, and which combinations of that have rollups of their own.

A combination is called a cube. A query reads the smallest cube that has every dimension it groups or filters by, so
that a question about the whole, or about one dimension, reads few rows however many combinations there are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mesh.errors import InvalidError

__all__ = ["CUBES", "DIMENSIONS", "OTHER", "cube_for", "places_of"]

DIMENSIONS = ("service", "method", "agent", "model", "model_version", "connection", "principal")
"""In the order in which their values stand in a series."""

OTHER = "other"
"""Stands in every dimension of what was too small to be kept apart."""

CUBES: Mapping[str, tuple[str, ...]] = {
    "total": (),
    "service": ("service",),
    "agent": ("agent",),
    "connection": ("connection",),
    "principal": ("principal",),
    "method": ("service", "method"),
    "model": ("model", "model_version"),
    "all": DIMENSIONS,
}
"""The cubes with their dimensions, smallest first."""


def cube_for(wanted: Collection[str], field: str = "group_by") -> str:
    """The smallest cube that has these dimensions.

    Args:
        wanted: names of dimensions.
        field: of the request, to name in the error.

    Raises:
        InvalidError: one of them is no dimension.
    """
    for dimension in wanted:
        if dimension not in DIMENSIONS:
            raise InvalidError(field, f"must name dimensions: {', '.join(DIMENSIONS)}", value=dimension)
    return next(cube for cube, kept in CUBES.items() if set(wanted) <= set(kept))


def places_of(cube: str) -> tuple[int, ...]:
    """Where a cube's dimensions stand in a series of all dimensions."""
    return tuple(DIMENSIONS.index(dimension) for dimension in CUBES[cube])
