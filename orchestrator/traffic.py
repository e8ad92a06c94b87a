"""Which revision a new run gets: by shares of a hundred, and the same one however often the same run is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from mesh.errors import InvalidError
from orchestrator.errors import NoEarlierRevisionError

__all__ = ["Target", "check_traffic", "pick_revision", "rolled_back"]


class Target(msgspec.Struct, frozen=True):
    """A share of an agent's new runs: the revision's number, and how many of a hundred."""

    revision: int
    percent: int


def check_traffic(targets: Sequence[Target], newest: int, field: str = "traffic") -> None:
    """Refuse shares that are none.

    Args:
        targets: the shares; none at all is fine and means the newest revision.
        newest: number of the newest revision.
        field: where they stand in the request.

    Raises:
        InvalidError: they do not make 100, or name a revision twice or one that there is not.
    """
    if not targets:
        return
    numbers = [target.revision for target in targets]
    unknown = next((number for number in numbers if not 1 <= number <= newest), None)
    if unknown is not None:
        raise InvalidError(field, f"there is no revision r{unknown}; the newest is r{newest}")
    if len(set(numbers)) < len(numbers):
        raise InvalidError(field, "names a revision twice")
    whole = sum(target.percent for target in targets)
    if whole != 100:
        raise InvalidError(field, f"the shares make {whole}; they must make 100")


def pick_revision(targets: Sequence[Target], newest: int, run: str) -> int:
    """The number of the revision that a run gets; its name alone decides, so that a repeated request agrees."""
    if not targets:
        return newest
    draw = int.from_bytes(hashlib.sha256(run.encode()).digest()[:8], "big") % 10_000
    reached = 0
    for target in targets:
        reached += target.percent * 100
        if draw < reached:
            return target.revision
    return targets[-1].revision


def rolled_back(targets: Sequence[Target], newest: int, to: int | None) -> tuple[Target, ...]:
    """All new runs to one revision: to the one given, or to the one before the newest that has any now.

    Raises:
        NoEarlierRevisionError: there is none before.
    """
    if to is None:
        serving = [target.revision for target in targets if target.percent] or [newest]
        to = max(serving) - 1
        if to < 1:
            raise NoEarlierRevisionError("there is no revision before r1")
    rolled = (Target(to, 100),)
    check_traffic(rolled, newest, "revision")
    return rolled
