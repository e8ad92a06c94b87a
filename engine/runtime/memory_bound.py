"""How much memory this process may take: what the machine, or its container, has.

Past that the system ends processes without a word. Below it an allocation that cannot be is an error of whoever asked
for it: the runtime says so of a run, and goes on.
"""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

__all__ = ["bound_memory", "memory_there_is"]

_SHARE = 0.95
_UNUSED_BYTES = 512 << 20
"""Mapped and not used, so that no memory is taken by it: the stacks of threads, mostly."""
_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def bound_memory() -> int:
    """Let allocations fail that go beyond; returns the bound in bytes. Whoever set a narrower one is obeyed."""
    bound = int(memory_there_is() * _SHARE) + _UNUSED_BYTES
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    given = [each for each in (soft, hard) if each != resource.RLIM_INFINITY]
    bound = min([bound, *given])
    resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
    return bound


def memory_there_is() -> int:
    """The machine's memory in bytes, or the container's where that has less."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in _CGROUPS:
        with suppress(OSError, ValueError):  # not there, or `max`
            found.append(int(file.read_text()))
    return min(found)
