"""A system-call filter for workers whose engine needs threads and descriptors of its own.

The decision engine starts a runtime for each evaluation, so it cannot be held by limits of zero. What it may not do,
the kernel refuses here: files, sockets, other programs, other processes.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from typing import Final

__all__ = ["filter_calls"]

_PR_SET_SECCOMP: Final = 22
_MODE_FILTER: Final = 2
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_CLONE_THREAD: Final = 0x00010000
_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
"""Instructions of classic BPF (linux/bpf_common.h): load a word, jump if equal, and, return."""
_NUMBER_AT, _ARCH_AT, _FIRST_ARGUMENT_AT = 0, 4, 16

_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_REFUSED: Final = {
    "x86_64": {
        "open": 2, "socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "fork": 57,
        "vfork": 58, "execve": 59, "kill": 62, "unlink": 87, "ptrace": 101, "openat": 257, "execveat": 322,
        "io_uring_setup": 425, "openat2": 437, "process_vm_readv": 310, "process_vm_writev": 311, "tkill": 200,
        "mount": 165, "bpf": 321, "name_to_handle_at": 303, "open_by_handle_at": 304, "memfd_create": 319,
    },
    "aarch64": {
        "openat": 56, "socket": 198, "bind": 200, "listen": 201, "accept": 202, "connect": 203,
        "execve": 221, "kill": 129, "tkill": 130, "unlinkat": 35, "ptrace": 117, "execveat": 281, "io_uring_setup": 425,
        "openat2": 437, "process_vm_readv": 270, "process_vm_writev": 271, "mount": 40, "bpf": 280,
        "name_to_handle_at": 264, "open_by_handle_at": 265, "memfd_create": 279,
    },
}  # fmt: skip
_CLONE: Final = {"x86_64": 56, "aarch64": 220}
_CLONE3: Final = 435


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def filter_calls(libc: ctypes.CDLL) -> None:
    """Refuse, from now on and for good, what a decision never needs. New privileges must be off already.

    Raises:
        OSError: the kernel does not take the filter, or the machine is of a kind that we have no numbers for.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no system-call numbers for {machine}")
    refused = sorted(_REFUSED[machine].values())
    steps: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    for number in refused:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    # clone3 hides its flags in memory: the C library falls back to clone, whose flags can be read here.
    steps += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    steps += [
        (_EQUAL, 0, 4, _CLONE[machine]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_AND, 0, 0, _CLONE_THREAD),
        (_EQUAL, 1, 0, _CLONE_THREAD),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    program = _Program(len(steps), code)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel takes no system-call filter")
