"""The memory that all models together may take, on each device: made by putting aside what nobody asks for.

A version takes up the bytes of its files for each of its sessions, or what the memory grew by while it was opened where
that is more and nothing else was at work meanwhile that could have grown it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from engine.errors import ModelTooBigError, NoRoomError
from engine.repository.memory import Memory
from engine.runtime.device_memory import DeviceMemory
from engine.runtime.devices import read_device
from engine.runtime.ledger import CPU, Claim, Ledger
from mesh.identity import SYSTEM_TENANT
from mesh.resource import tenant_of

__all__ = ["Growth", "Room", "Size"]

_MOST_NAMED = 3
"""So many of the models that leave no room are named."""


@dataclass(frozen=True, slots=True)
class Size:
    """What is known of a version before it is opened.

    Attributes:
        files_bytes: of all its files.
        instances: the device of each of its sessions, an empty one for the engine's own; without any there is one.
    """

    files_bytes: int
    instances: Sequence[str] = ()


class Room:
    """Keeps models within the memory of their devices.

    Args:
        memory: where they are.
        ledger: knows how much each device has, and who has claimed it.
        device: where sessions compute that say nothing else.
        reading: tells how much memory is in use.
    """

    def __init__(self, memory: Memory, ledger: Ledger, device: str, reading: DeviceMemory) -> None:
        self._memory = memory
        self._ledger = ledger
        self._device = device
        self._reading = reading
        self._measured: dict[str, tuple[Size, Mapping[str, int]]] = {}
        self._log = structlog.get_logger("engine.repository")

    def needs(self, name: str, size: Size) -> Mapping[str, int]:
        """What a version will take up by device: what it took the last time, or else its files for each session."""
        measured = self._measured.get(name)
        if measured is not None and measured[0] == size:
            return measured[1]
        return Counter(
            {
                device: size.files_bytes * sessions
                for device, sessions in Counter(
                    read_device(each or self._device).place for each in size.instances or ("",)
                ).items()
            }
        )

    def has(self, needs: Mapping[str, int]) -> bool:
        """Whether there is room for so much more."""
        return not self._ledger.short(needs)

    def growth(self, needs: Mapping[str, int]) -> Growth:
        """What the devices of a version grow by, from here on."""
        return Growth(self._memory, self._reading, {CPU, *needs})

    async def make(self, name: str, needs: Mapping[str, int]) -> Claim:
        """Have room for a version, by putting others aside; it is the version's until it gives it back.

        Raises:
            ModelTooBigError: there will never be enough.
            NoRoomError: what is in memory cannot be put aside now.
        """
        self.check(name, needs)
        while (claim := self._ledger.claim(needs)) is None:
            for device in self._ledger.short(needs):
                await self._put_aside_for(name, device, needs[device])
        return claim

    async def grow(self, name: str, size: Size, claim: Claim, grown: Mapping[str, int]) -> None:
        """Have a version's claim hold what it was seen to take, where that is more.

        Raises:
            ModelTooBigError, NoRoomError: as `make`.
        """
        needs = {device: max(claim.needs.get(device, 0), grown.get(device, 0)) for device in {*claim.needs, *grown}}
        self.check(name, needs)
        self._measured[name] = (size, needs)
        more = await self.make(name, {device: bytes_ - claim.needs.get(device, 0) for device, bytes_ in needs.items()})
        claim.resize(needs)
        more.release()

    def check(self, name: str, needs: Mapping[str, int], others: Iterable[Mapping[str, int]] = ()) -> None:
        """Refuse what would not fit even if nothing else were in memory.

        Args:
            name: of the version.
            needs: what it takes by device.
            others: what those take that it stands on, which must be in memory beside it.

        Raises:
            ModelTooBigError: it would not.
        """
        below = list(others)
        for device, size in needs.items():
            limit, beside = self._ledger.limit_of(device), sum(each.get(device, 0) for each in below)
            if limit and size and size + beside > limit:
                stands = f" and what it stands on {beside}" if beside else ""
                raise ModelTooBigError(
                    f"{name} needs {size} bytes{stands}, and all models together may take {limit} of {device}'s "
                    f"memory: it does not fit even with all others unloaded. Raise {_setting(device)} to at least "
                    f"{size + beside}, or push a smaller version (int8, fp16, fewer `instances`)",
                    resource=name,
                    needs=size + beside,
                    limit=limit,
                    device=device,
                )

    async def _put_aside_for(self, name: str, device: str, size: int) -> None:
        """Put the version aside that was not asked for longest, where that and others like it would do.

        Raises:
            NoRoomError: nothing that can go would do.
        """
        limit, taken = self._ledger.limit_of(device), self._ledger.taken(device)
        idle = [each for each in self._memory.idle if each.claim is not None and each.claim.needs.get(device)]
        if taken + size - sum(each.claim.needs[device] for each in idle if each.claim is not None) > limit:
            raise NoRoomError(
                f"{name} needs {size} bytes; of the {limit} of {device}'s memory for all models {taken} are taken, too "
                f"many of them by models that are pinned or in use{self._kept(name, device)}. Try again later, unload "
                f"what is not needed, or raise {_setting(device)}",
                retry_after_s=1.0,
                resource=name,
                needs=size,
                limit=limit,
                device=device,
            )
        if idle:
            self._log.info("model put aside", model=idle[0].name, device=device)
            self._memory.set_aside(idle[0].name, idle[0].uid)
            await self._memory.closed([idle[0].name])

    def _kept(self, name: str, device: str) -> str:
        """Those that leave no room for a version, the largest first; other tenants' are counted and not named."""
        why = self._memory.kept
        sizes = {
            each.name: each.claim.needs[device]
            for each in self._memory.every()
            if each.name in why and each.claim is not None and each.claim.needs.get(device)
        }
        seen = [each for each in sizes if tenant_of(each) in (tenant_of(name), SYSTEM_TENANT)]
        named = sorted(seen, key=lambda each: -sizes[each])[:_MOST_NAMED]
        more = len(sizes) - len(named)
        said = ", ".join(f"{each} ({why[each]})" for each in named)
        if not more:
            return f": {said}" if said else ""
        return f": {said} and {more} more" if said else f": {more} of other tenants"


class Growth:
    """What the memory of some devices grows by, from here on.

    Args:
        memory: tells whether others are at work.
        reading: tells how much is in use.
        devices: which ones.
    """

    def __init__(self, memory: Memory, reading: DeviceMemory, devices: Iterable[str]) -> None:
        self._memory = memory
        self._reading = reading
        self._alone = not memory.busy
        self._before = {device: reading.used(device) for device in devices}

    def bytes(self) -> Mapping[str, int]:
        """How many bytes by device; none where others were at work when it began or are now."""
        if not self._alone or self._memory.busy:
            return {}
        return {device: max(0, self._reading.used(device) - before) for device, before in self._before.items()}


def _setting(device: str) -> str:
    return "engine.memory_budget_bytes" if device == CPU else "engine.gpu_memory_budget_bytes"
