"""Where peers come in: each has some seconds to show its certificate, and only so many are doing that at once.

A peer with a certificate is a connection of `mesh.http2.server`'s.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

import structlog

__all__ = ["Door"]

_HANDSHAKE_S = 10.0
_MOST_STRANGERS = 512
"""Peers in their handshakes; for one more, the one that came first is sent away: it has had the most time."""
_BACKLOG = 1024
_PAUSE_S = 0.1
"""After the system gave no socket: there is none left, and some are given back meanwhile."""


class Door:
    """Listens.

    Args:
        context: of the handshakes.
        protocol: makes what hears of a peer once its handshake is done.
    """

    def __init__(self, context: ssl.SSLContext, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._context = context
        self._protocol = protocol
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._strangers: dict[socket.socket, asyncio.Task[None]] = {}

    async def open(self, host: str, port: int) -> int:
        """Bind to all addresses of a host, or to every one there is where it is empty; returns the port.

        Raises:
            OSError: the address cannot be used.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                listening = socket.socket(family, kind, protocol)
                self._sockets.append(listening)
                listening.setblocking(False)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listening.bind(address)
                listening.listen(_BACKLOG)
        except OSError:
            await self.close()
            raise
        self._accepting = [loop.create_task(self._accept(listening)) for listening in self._sockets]
        return int(self._sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Let nobody in any more."""
        tasks = (*self._accepting, *self._strangers.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in self._sockets:
            each.close()
        self._sockets, self._accepting = [], []

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                stranger, _ = await loop.sock_accept(listening)
            except ConnectionError:  # it has gone again
                continue
            except OSError as error:
                structlog.get_logger("mesh.http2").warning("connection not taken", error=str(error))
                self._send_away()
                await asyncio.sleep(_PAUSE_S)
                continue
            if len(self._strangers) >= _MOST_STRANGERS:
                self._send_away()
            self._strangers[stranger] = loop.create_task(self._greet(stranger))

    async def _greet(self, stranger: socket.socket) -> None:
        """Have a peer show its certificate; one that does not is gone."""
        loop = asyncio.get_running_loop()
        try:
            stranger.setblocking(False)
            stranger.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(
                self._protocol, stranger, ssl=self._context, ssl_handshake_timeout=_HANDSHAKE_S
            )
        except (OSError, ssl.SSLError, TimeoutError):
            _end(stranger)
        except asyncio.CancelledError:
            _end(stranger)
            raise
        finally:
            self._strangers.pop(stranger, None)

    def _send_away(self) -> None:
        """End the handshake that has taken longest."""
        oldest = next(iter(self._strangers), None)
        if oldest is not None:
            self._strangers.pop(oldest).cancel()


def _end(each: socket.socket) -> None:
    """End a connection, also where a transport has its socket by now."""
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
