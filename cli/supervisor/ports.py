"""Ports for the services: free, below the range from which the system hands out ports by itself."""

from __future__ import annotations

import errno
import random
import socket
from pathlib import Path

from mesh.errors import Code, TiationError

__all__ = ["AddressUnusableError", "PortTakenError", "check_free", "choose_ports"]

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 15000


class AddressUnusableError(TiationError):
    """The front door's address is none of this machine's."""

    code = Code.INVALID_ARGUMENT
    reason = "ADDRESS_UNUSABLE"


class PortTakenError(TiationError):
    """Something else listens where the platform should."""

    code = Code.UNAVAILABLE
    reason = "PORT_TAKEN"


def check_free(host: str, port: int) -> None:
    """Make sure that the front door can be opened.

    Raises:
        PortTakenError: somebody else has the port.
        AddressUnusableError: no port of that address can be had.
    """
    try:
        _bind(host, port)
    except OSError as error:
        if error.errno == errno.EACCES:
            raise PortTakenError(f"port {port} needs more rights than you have; choose one above 1023") from None
        if error.errno != errno.EADDRINUSE:
            raise AddressUnusableError(
                f"gateway.host is {host}, at which this machine cannot listen ({error.strerror}); "
                "127.0.0.1 is for this machine alone, 0.0.0.0 for everybody"
            ) from None
        raise PortTakenError(
            f"port {port} on {host} is taken by another program; stop it, or choose another with `--port`", port=port
        ) from None


def choose_ports(count: int) -> list[int]:
    """As many different free ports on loopback."""
    try:
        highest = int(_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        highest = 32768
    if highest <= _LOWEST + 1000:
        highest = 32768
    chosen: list[int] = []
    candidates = random.sample(range(_LOWEST, highest), min(2000, highest - _LOWEST))
    for port in candidates:
        try:
            _bind("127.0.0.1", port)
        except OSError:
            continue
        chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise PortTakenError(f"fewer than {count} ports are free on this machine")


def _bind(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
