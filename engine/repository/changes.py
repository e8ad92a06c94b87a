"""What a caller changes of a model: its policy, aliases, labels; and what is refused before anything is changed."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import msgspec

from engine.errors import AliasNotReadyError
from engine.repository.models import Model, ModelVersion, VersionPolicy
from mesh.entries import Entry
from mesh.errors import InvalidError

__all__ = ["ModelChange", "changed_model", "check_change"]

_ALIAS = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_MAX_ALIASES = 64
_MAX_TARGETS = 16
_MAX_WEIGHT = 1_000_000


@dataclass(frozen=True, slots=True)
class ModelChange:
    """New values; None for those that stay.

    Attributes:
        policy: which versions shall be in memory.
        aliases: names for versions, with weights.
        labels: the caller's own.
        validate_only: true to check everything and change nothing.
    """

    policy: VersionPolicy | None = None
    aliases: Mapping[str, Mapping[int, int]] | None = None
    labels: Mapping[str, str] | None = None
    validate_only: bool = False


def changed_model(entry: Entry[Model], change: ModelChange) -> Entry[Model]:
    """A model as it is after the change."""
    body = entry.body
    if change.policy is not None:
        body = msgspec.structs.replace(body, policy=change.policy)
    if change.aliases is not None:
        body = msgspec.structs.replace(body, aliases={name: dict(to) for name, to in change.aliases.items()})
    return replace(entry, body=body, labels=dict(entry.labels if change.labels is None else change.labels))


def check_change(
    entry: Entry[Model],
    changed: Entry[Model],
    change: ModelChange,
    versions: Mapping[int, ModelVersion],
    in_memory: Collection[int],
) -> None:
    """Refuse a change that cannot be.

    Args:
        entry: the model as it is.
        changed: as it shall be.
        change: what is changed.
        versions: all that it has.
        in_memory: those that answer now.

    Raises:
        InvalidError: a policy or an alias names a version that there is not, or is none.
        AliasNotReadyError: an alias would name a version that does not answer.
    """
    if change.policy is not None:
        for number in change.policy.versions or ():
            if number not in versions:
                raise InvalidError("model.version_policy.specific.versions", f"there is no version {number}")
    if change.aliases is None:
        return
    _check_form(change.aliases)
    answering = set(in_memory)
    for alias, weights in changed.body.aliases.items():
        for number in weights:
            field = f"model.aliases[{alias}]"
            if number not in versions:
                raise InvalidError(field, f"there is no version {number}")
            if number not in answering and number not in entry.body.aliases.get(alias, {}):
                why = versions[number].failure
                raise AliasNotReadyError(
                    f"{field}: version {number} does not answer requests"
                    + (f", because it failed: {why}" if why else "; load it first"),
                    alias=alias,
                    version=number,
                )


def _check_form(aliases: Mapping[str, Mapping[int, int]]) -> None:
    if len(aliases) > _MAX_ALIASES:
        raise InvalidError("model.aliases", f"are {len(aliases)}; at most {_MAX_ALIASES} are taken")
    for alias, weights in aliases.items():
        field = f"model.aliases[{alias[:64]}]"
        if not _ALIAS.fullmatch(alias):
            raise InvalidError(field, "must be lower-case letters, digits and hyphens, and begin with a letter")
        if not 1 <= len(weights) <= _MAX_TARGETS:
            raise InvalidError(field, f"must name from 1 to {_MAX_TARGETS} versions; leave the alias out to remove it")
        for number, weight in weights.items():
            if not 1 <= weight <= _MAX_WEIGHT:
                raise InvalidError(field, f"the weight of version {number} must be from 1 to {_MAX_WEIGHT}")
