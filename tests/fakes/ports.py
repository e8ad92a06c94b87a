"""Ports on loopback that nobody listens on."""

from __future__ import annotations

import socket


def free_ports(count: int) -> list[int]:
    """As many different ports, free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in sockets]
    finally:
        for probe in sockets:
            probe.close()
