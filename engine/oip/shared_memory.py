"""System shared memory: regions that clients on the same machine have registered, each tenant its own.

A region is a part of a POSIX shared memory object. It is read and written through its file, never mapped: a client that
cuts its object short would end a process that has it mapped, and one that writes while a model computes would change
what has been checked.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from engine.errors import (
    RegionExistsError,
    RegionInvalidError,
    RegionNotFoundError,
    SharedMemoryOffError,
    TooManyRegionsError,
)

__all__ = ["OpenRegion", "Region", "Regions", "SharedMemory"]

SharedMemory: TypeAlias = Literal["off", "own", "any"]
"""Whether regions are taken: none, those whose key begins with the tenant's id and a dot, or all."""

_OBJECTS = Path("/dev/shm")  # noqa: S108 -- where shm_open of Linux has its objects
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_KEY = re.compile(r"/*([^/\x00-\x1f]{1,250})")
"""One name; C libraries ignore slashes in front of it."""
_MOST_OF_TENANT = 256
_MOST = 1024
_MOST_BYTES = 1 << 30
"""Of one tensor: an object can be said to be far larger than any memory, and is copied here."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a shared memory object.

    Attributes:
        name: what requests call it.
        key: of the object, as it was registered.
        offset: where in it the region begins, bytes.
        byte_size: its length, bytes.
    """

    name: str
    key: str
    offset: int
    byte_size: int


class OpenRegion:
    """A region whose object is open; it closes once it is forgotten and nobody uses it any more."""

    def __init__(self, region: Region, file: int) -> None:
        self.region = region
        self._file = file
        self._users = 0
        self._forgotten = False
        self._changed = threading.Lock()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep it open to the end of the block."""
        with self._changed:
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                self._close_unused()

    def forget(self) -> None:
        """Close it after those who use it."""
        with self._changed:
            self._forgotten = True
            self._close_unused()

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the region.

        Raises:
            RegionInvalidError: they are not all in it, or its object has been cut short.
        """
        at = self._within(offset, size)
        if size > _MOST_BYTES:
            raise RegionInvalidError(f"{size} bytes of shared memory; at most {_MOST_BYTES} are taken at once")
        data = os.pread(self._file, size, at) if size else b""
        while len(data) < size:  # Linux gives no more than 2 GiB at once
            more = os.pread(self._file, size - len(data), at + len(data))
            if not more:
                raise self._cut()
            data += more
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes into the region.

        Raises:
            RegionInvalidError: they do not fit, or its object has been cut short.
        """
        at = self._within(offset, len(data))
        if os.fstat(self._file).st_size < at + len(data):  # writing would lengthen it
            raise self._cut()
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file, view, at)
            view, at = view[written:], at + written

    def _within(self, offset: int, size: int) -> int:
        region = self.region
        if offset < 0 or size < 0 or offset + size > region.byte_size:
            raise RegionInvalidError(
                f"shared memory region {region.name!r} has {region.byte_size} bytes; {size} from {offset} on are not "
                "in it",
                region=region.name,
            )
        return region.offset + offset

    def _cut(self) -> RegionInvalidError:
        return RegionInvalidError(
            f"shared memory region {self.region.name!r}: its object has been cut short since it was registered",
            region=self.region.name,
        )

    def _close_unused(self) -> None:
        if self._forgotten and not self._users and self._file >= 0:
            os.close(self._file)
            self._file = -1


class Regions:
    """Keeps the regions of all tenants.

    Args:
        mode: which are taken.
        objects: the folder in which the system has its shared memory objects.
    """

    def __init__(self, mode: SharedMemory, objects: Path = _OBJECTS) -> None:
        self._mode = mode
        self._objects = objects
        self._open: dict[tuple[str, str], OpenRegion] = {}

    @property
    def is_on(self) -> bool:
        """Whether any are taken."""
        return self._mode != "off"

    def register(self, tenant: str, region: Region) -> None:
        """Take a region.

        Raises:
            SharedMemoryOffError: none are taken.
            RegionInvalidError: its name or key is none, or no object of that key has so many bytes.
            RegionExistsError: the tenant has one of that name.
            TooManyRegionsError: there are too many.
        """
        self._check_on()
        if _NAME.fullmatch(region.name) is None:
            raise RegionInvalidError(
                "name: must be letters, digits and `_.:-`, at most 128, the first a letter or a digit", field="name"
            )
        if (tenant, region.name) in self._open:
            raise RegionExistsError(
                f"shared memory region {region.name!r} is registered already; unregister it first", region=region.name
            )
        own = sum(owner == tenant for owner, _ in self._open)
        if own >= _MOST_OF_TENANT or len(self._open) >= _MOST:
            raise TooManyRegionsError(f"{own} shared memory regions are registered; unregister some first")
        file = self._opened(tenant, region)
        self._open[tenant, region.name] = OpenRegion(region, file)

    def unregister(self, tenant: str, name: str) -> None:
        """Forget one region, or all of the tenant where the name is empty; requests that use one go on with it."""
        self._check_on()
        for key in [key for key in self._open if key[0] == tenant and name in ("", key[1])]:
            self._open.pop(key).forget()

    def status(self, tenant: str, name: str) -> list[Region]:
        """One region, or all of the tenant where the name is empty.

        Raises:
            RegionNotFoundError: there is no such region.
        """
        self._check_on()
        if name:
            return [self._found(tenant, name).region]
        return [each.region for (owner, _), each in self._open.items() if owner == tenant]

    @contextmanager
    def using(self, tenant: str, name: str) -> Iterator[OpenRegion]:
        """A region to read from and write to, to the end of the block.

        Raises:
            RegionNotFoundError: there is no such region.
        """
        self._check_on()
        found = self._found(tenant, name)
        with found.used():
            yield found

    def close(self) -> None:
        """Forget all of them."""
        for each in self._open.values():
            each.forget()
        self._open.clear()

    def _found(self, tenant: str, name: str) -> OpenRegion:
        found = self._open.get((tenant, name))
        if found is None:
            raise RegionNotFoundError(
                f"shared memory region {name[:128]!r} is not registered; register it first", region=name[:128]
            )
        return found

    def _check_on(self) -> None:
        if not self.is_on:
            raise SharedMemoryOffError(
                "shared memory is switched off; the operator may set engine.shared_memory, else send tensors in the "
                "request"
            )

    def _opened(self, tenant: str, region: Region) -> int:
        """The region's object, open."""
        parted = _KEY.fullmatch(region.key)
        if parted is None or parted[1] in (".", ".."):
            raise RegionInvalidError("key: must be `/` and one name without further slashes", field="key")
        if self._mode == "own" and not parted[1].startswith(f"{tenant}."):
            raise RegionInvalidError(
                f"key: must begin with the tenant's id and a dot, `/{tenant}.NAME`, so that no tenant reaches what "
                "others keep in shared memory",
                field="key",
            )
        if region.byte_size < 1:
            raise RegionInvalidError("byte_size: must be at least 1", field="byte_size")
        try:
            file = os.open(self._objects / parted[1], os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise _not_opened(region, error) from None
        try:
            _check_object(region, os.fstat(file))
        except BaseException:  # whatever it is, the file is not left open
            os.close(file)
            raise
        return file


_WHY: Mapping[int, str] = {
    errno.ENOENT: "there is no such object on the engine's machine",
    errno.EACCES: "the engine's user may not read and write it",
    errno.ELOOP: "it is a symbolic link",
}


def _not_opened(region: Region, error: OSError) -> RegionInvalidError:
    why = _WHY.get(error.errno or 0, "it is no shared memory object")
    return RegionInvalidError(f"key: {region.key[:256]!r} cannot be opened: {why}", field="key")


def _check_object(region: Region, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RegionInvalidError(f"key: {region.key[:256]!r} is no shared memory object", field="key")
    if region.offset + region.byte_size > status.st_size:
        raise RegionInvalidError(
            f"byte_size: {region.byte_size} bytes from {region.offset} on are asked for, and {region.key[:256]!r} has "
            f"{status.st_size}",
            field="byte_size",
        )
