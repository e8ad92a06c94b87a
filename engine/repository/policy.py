"""Which versions of a model shall be in memory: the policy, what an operator says of one, and aliases, together."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from engine.repository.models import Hold, Model, ModelVersion, VersionPolicy

__all__ = ["aliased", "desired", "hold_of"]


def desired(model: Model, versions: Mapping[int, ModelVersion], without: Collection[int] = ()) -> set[int]:
    """The versions that shall be in memory.

    Args:
        model: with its policy and aliases.
        versions: all that it has.
        without: those that cannot be loaded; `latest` reaches further back for each.
    """
    free = [number for number, body in versions.items() if body.hold is not Hold.UNLOADED and number not in without]
    pinned = {number for number, body in versions.items() if body.hold is Hold.LOADED and number not in without}
    named = {number for number in aliased(model) if number in versions and number not in without}
    return _selected(model.policy, free) | pinned | named


def aliased(model: Model) -> set[int]:
    """The versions that aliases name."""
    return {number for weights in model.aliases.values() for number in weights}


def hold_of(model: Model, versions: Mapping[int, ModelVersion], number: int, *, loaded: bool) -> Hold:
    """What is remembered of a version that an operator loads or unloads: nothing where the policy says the same."""
    chosen = number in _selected(
        model.policy, [each for each, body in versions.items() if body.hold is not Hold.UNLOADED or each == number]
    )
    if chosen == loaded:
        return Hold.NONE
    return Hold.LOADED if loaded else Hold.UNLOADED


def _selected(policy: VersionPolicy, versions: Collection[int]) -> set[int]:
    if policy.every:
        return set(versions)
    if policy.versions is not None:
        return set(policy.versions) & set(versions)
    return set(sorted(versions)[-policy.latest :])
