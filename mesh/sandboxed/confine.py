"""How a worker gives up its rights before the first call: files, sockets, processes, memory, privileges.

It is called once, after everything is imported and open; deadlines are kept from outside. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from typing import Final

from mesh.sandboxed.seccomp import filter_calls

__all__ = ["Memory", "confine"]

# linux/prctl.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38

_NOBODY: Final = 65534
_FEW_DESCRIPTORS: Final = 32


class Memory:
    """Tells how much address space this process uses, which is what RLIMIT_AS bounds.

    Args:
        statm: descriptor of /proc/self/statm.
    """

    def __init__(self, statm: int) -> None:
        self._statm = statm
        self._page_bytes = resource.getpagesize()

    def in_use(self) -> int:
        """The size of the address space in bytes."""
        return int(os.pread(self._statm, 64, 0).split()[0]) * self._page_bytes


def confine(memory_bytes: int, *, threads: bool = False) -> Memory:
    """Keep nothing but the descriptors 0 (the socket pair), 2 (last words) and the one behind `Memory`.

    Afterwards nothing can be opened, connected or imported; there is no child process, no file larger than nothing, no
    core dump, and no more memory than what is in use now plus `memory_bytes`. A worker started by root becomes nobody.

    Args:
        memory_bytes: what calls may use.
        threads: true for an engine that needs threads and descriptors; a system-call filter holds it instead.

    Returns:
        What the worker uses of it, from here on.

    Raises:
        OSError: the system refuses one of the limits; the worker must not serve then.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    statm = os.open("/proc/self/statm", os.O_RDONLY)
    os.chdir("/")
    os.set_blocking(2, False)
    os.close(1)
    if not threads:  # an engine with threads keeps descriptors of its own; nothing else is open in a worker
        os.closerange(3, statm)
        os.closerange(statm + 1, max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 4096))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    # These three come after the change of user, which resets the first two.
    _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(libc, _PR_SET_DUMPABLE, 0)
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    if threads:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FEW_DESCRIPTORS, _FEW_DESCRIPTORS))
        filter_calls(libc)
    else:
        for limit in (resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
            resource.setrlimit(limit, (0, 0))
    memory = Memory(statm)
    limit_bytes = memory.in_use() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    return memory


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")
