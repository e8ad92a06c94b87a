"""The section `scheduling`, which kinds have that run a graph of their own: how requests wait and share runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, TypeAlias

import msgspec

from engine.errors import ManifestError
from engine.manifest.fields import Common
from engine.scheduler.policy import BatchPolicy, Level

__all__ = ["GraphManifest", "Priorities", "Scheduling"]

_Rows: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=4096)]
_Places: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_Milliseconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=86_400_000)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=16)]
_Device: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(cpu|(cuda|tensorrt)(:[0-9]{1,3})?)\Z",
        description="one of cpu, cuda, cuda:1, tensorrt, tensorrt:1, with any number",
    ),
]


class Priorities(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How urgent requests may be.

    Attributes:
        levels: how many there are; 1 is the most urgent.
        default: that of a request which names none; without it the one in the middle, the more urgent of two.
        max_queue: how many requests may wait at each level, a number a level.
        timeout_ms: how long they may wait there where they do not say, a number a level; 0 for as long as it takes.
    """

    levels: _Count = 1
    default: _Count | None = None
    max_queue: tuple[_Places, ...] = ()
    timeout_ms: tuple[_Milliseconds, ...] = ()

    def __post_init__(self) -> None:
        """See that each list has a number a level, and the default is one of them.

        Raises:
            ManifestError: they do not.
        """
        default = self.default_level
        if not 1 <= default <= self.levels:
            raise ManifestError(
                f"scheduling.priorities.default: {default}, but the levels are 1 to {self.levels}; write the line "
                f"`default: {self.levels}`, or `levels: {max(1, default)}`"
            )
        for key, numbers in (("max_queue", self.max_queue), ("timeout_ms", self.timeout_ms)):
            if numbers and len(numbers) != self.levels:
                filled = [*numbers, *[numbers[-1]] * self.levels][: self.levels]
                raise ManifestError(
                    f"scheduling.priorities.{key}: {len(numbers)} numbers for {self.levels} levels; write one a level: "
                    f"`{key}: [{', '.join(f'{number:g}' for number in filled)}]`"
                )

    @property
    def default_level(self) -> int:
        """The level of a request that names none, from 1."""
        return (self.levels + 1) // 2 if self.default is None else self.default

    @property
    def made(self) -> tuple[Level, ...]:
        """The levels, the most urgent first."""
        places = self.max_queue or (0,) * self.levels
        waits = self.timeout_ms or (0.0,) * self.levels
        return tuple(Level(most, within / 1e3) for most, within in zip(places, waits, strict=True))


class Scheduling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How requests wait and share runs; what is left out is as the engine's settings say.

    Attributes:
        max_batch: the most rows in a run.
        max_batch_tokens: the most places, rows times the longest of them, in a run whose rows are padded.
        max_delay_ms: how long a request waits for others while the model is idle.
        preferred_batch_sizes: with so many rows nothing is waited for any longer; ascending.
        max_queue: how many requests may wait.
        timeout_ms: how long a request may wait where it does not say; 0 for as long as it takes.
        priorities: how urgent requests may be.
        instances: how many sessions compute at once, or the device of each; without it one, and a second one once
            requests wait for slow runs.
    """

    max_batch: _Rows | None = None
    max_batch_tokens: Annotated[int, msgspec.Meta(ge=1, le=1 << 24)] | None = None
    max_delay_ms: Annotated[float, msgspec.Meta(ge=0, le=10_000)] = 0.0
    preferred_batch_sizes: Annotated[tuple[_Rows, ...], msgspec.Meta(max_length=64)] = ()
    max_queue: _Places | None = None
    timeout_ms: _Milliseconds = 0.0
    priorities: Priorities = Priorities()
    instances: _Count | Annotated[tuple[_Device, ...], msgspec.Meta(min_length=1, max_length=16)] | None = None

    def __post_init__(self) -> None:
        """See that the numbers go together.

        Raises:
            ManifestError: they contradict each other; the message has the line to write.
        """
        sizes = self.preferred_batch_sizes
        if sizes and not self.max_delay_ms:
            raise ManifestError(
                "scheduling.preferred_batch_sizes: say how long a request waits for them, `max_delay_ms: 2`; "
                "without a delay everything that waits goes at once"
            )
        if list(sizes) != sorted(set(sizes)):
            raise ManifestError(
                f"scheduling.preferred_batch_sizes: must ascend; write `preferred_batch_sizes: {sorted(set(sizes))}`"
            )
        if self.max_batch is not None and sizes and sizes[-1] > self.max_batch:
            raise ManifestError(
                f"scheduling.preferred_batch_sizes: {sizes[-1]} is more than `max_batch: {self.max_batch}`; "
                f"write `max_batch: {sizes[-1]}`, or leave it out"
            )
        if self.timeout_ms and self.max_delay_ms >= self.timeout_ms:
            raise ManifestError(
                f"scheduling.max_delay_ms: {self.max_delay_ms:g} is no less than `timeout_ms: {self.timeout_ms:g}`: "
                "every request would be refused; lower one or raise the other"
            )

    @property
    def devices(self) -> tuple[str, ...]:
        """The device of each session that is said, an empty one for the engine's own."""
        return ("",) * self.instances if isinstance(self.instances, int) else self.instances or ()

    def policy(self, limits: BatchPolicy) -> BatchPolicy:
        """What comes of it within an engine's limits.

        Args:
            limits: as the settings say.

        Raises:
            ManifestError: it wants more than they allow.
        """
        rows = _within("max_batch", self.max_batch, limits.max_rows, "engine.max_batch")
        if self.preferred_batch_sizes[-1:] > (rows,):
            _within("preferred_batch_sizes", self.preferred_batch_sizes[-1], rows, "engine.max_batch")
        return replace(
            limits,
            max_rows=rows,
            max_waiting=_within("max_queue", self.max_queue, limits.max_waiting, "engine.max_queue"),
            max_padded=self.max_batch_tokens or 0,
            max_delay_s=self.max_delay_ms / 1e3,
            preferred_rows=self.preferred_batch_sizes,
            timeout_s=self.timeout_ms / 1e3,
            levels=self.priorities.made,
            default_level=self.priorities.default_level,
            instances=self.devices,
        )


class GraphManifest(Common, frozen=True):
    """The keys that a manifest of any kind has which runs a graph of its own.

    Attributes:
        scheduling: how requests wait and share runs.
    """

    scheduling: Scheduling = Scheduling()


def _within(key: str, wanted: int | None, most: int, setting: str) -> int:
    if wanted is not None and wanted > most:
        raise ManifestError(
            f"scheduling.{key}: {wanted}, but this engine takes {most} (`{setting}`); "
            f"write `{key}: {most}`, or have the setting raised"
        )
    return most if wanted is None else wanted
