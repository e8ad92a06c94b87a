"""Where a connection to a database server may go: over TCP, to an address that the guard allows, with few settings.

A driver resolves no name: each time a connection is opened its name is looked up and checked, and that address opened.
How statements are run is `integration.adapters.sql`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from sqlalchemy import URL, Engine, event
from sqlalchemy.exc import NoSuchModuleError

from integration.adapters.egress import Guard, GuardedNetwork, Resolver, check_port, plain_host, resolve
from integration.errors import LocationForbiddenError, SystemUnavailableError

__all__ = ["Servers"]

_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
_LIBPQ = frozenset({"psycopg", "psycopg2"})
_SETTINGS = frozenset(
    {"application_name", "channel_binding", "connect_timeout", "sslmode", "sslrootcert", "target_session_attrs"}
)
"""What a URL may say to libpq: nothing that names a host, a service, a file or a program."""
_ENCRYPTED = frozenset({"require", "verify-ca", "verify-full"})
_LONGEST_CONNECT_S = 30
_RESOLVE_S = 5.0


class Servers:
    """Lets connections reach database servers.

    Args:
        guard: decides.
        resolver: finds addresses.
    """

    def __init__(self, guard: Guard, resolver: Resolver = resolve) -> None:
        self._guard = guard
        self._resolver = resolver

    def check(self, url: URL) -> None:
        """Refuse a URL that says more than which server and database.

        Raises:
            LocationForbiddenError: naming what it may not say.
        """
        if url.username or url.password:
            raise LocationForbiddenError("config.url must not hold credentials; put them under `credentials`")
        if url.get_backend_name() not in _PORTS:
            raise LocationForbiddenError(
                f"where the driver `{url.drivername}` connects to cannot be checked; {', '.join(_PORTS)} can",
                driver=url.drivername,
            )
        try:
            url.get_dialect()
        except NoSuchModuleError:
            raise LocationForbiddenError(
                f"the driver `{url.drivername}` is not installed", driver=url.drivername
            ) from None
        if any(character in (url.database or "") for character in "=:\0"):
            raise LocationForbiddenError("config.url names no plain database")
        _check_settings(url)
        _host_and_port(url)

    def pin(self, engine: Engine, url: URL, loop: asyncio.AbstractEventLoop) -> None:
        """Have an engine's connections go to checked addresses.

        Args:
            engine: whose; its threads are not the loop's.
            url: which was checked.
            loop: which resolves names.
        """
        host, port = _host_and_port(url)
        libpq = url.get_dialect().driver in _LIBPQ
        network = GuardedNetwork(
            self._guard, self._resolver, public=libpq and str(url.query.get("sslmode")) in _ENCRYPTED
        )

        def connect(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:  # noqa: ANN401
            addresses = _resolved(network, host, port, loop)
            if libpq:  # the name stays, for TLS
                parameters["host"] = ",".join([host] * len(addresses))
                parameters["hostaddr"] = ",".join(addresses)
            elif parameters.get("host") == url.host:
                parameters["host"] = addresses[0]
            else:
                raise LocationForbiddenError(f"the driver `{url.drivername}` cannot be led to a checked address")

        event.listen(engine, "do_connect", connect)


def _resolved(network: GuardedNetwork, host: str, port: int, loop: asyncio.AbstractEventLoop) -> Sequence[str]:
    """The addresses of a host, asked for from another thread than the loop's."""
    asked = asyncio.run_coroutine_threadsafe(network.addresses(host, port), loop)
    try:
        return asked.result(_RESOLVE_S)
    except TimeoutError:
        asked.cancel()
        raise SystemUnavailableError(f"{host} has no address within {_RESOLVE_S:g} s", host=host) from None


def _host_and_port(url: URL) -> tuple[str, int]:
    """Where a URL leads to.

    Raises:
        LocationForbiddenError: to no host, or to a port at which something else listens.
    """
    if not url.host:
        raise LocationForbiddenError("config.url must name a host, for example postgresql+psycopg://db.example.com/crm")
    host, port = plain_host(url.host), url.port or _PORTS[url.get_backend_name()]
    check_port(port)
    return host, port


def _check_settings(url: URL) -> None:
    known = _SETTINGS if url.get_dialect().driver in _LIBPQ else frozenset[str]()
    for name, value in url.query.items():
        if name not in known or not isinstance(value, str):
            allowed = ", ".join(sorted(known)) or "none"
            raise LocationForbiddenError(
                f"config.url must not set `{name[:100]}`; what may be set is {allowed}", setting=name[:100]
            )
    authority, wait_s = url.query.get("sslrootcert", "system"), str(url.query.get("connect_timeout", "1"))
    if authority != "system":
        raise LocationForbiddenError("config.url may say `sslrootcert=system` and name no other file")
    if not wait_s.isascii() or not wait_s.isdecimal() or not 1 <= int(wait_s[:9]) <= _LONGEST_CONNECT_S:
        raise LocationForbiddenError(f"config.url: `connect_timeout` is seconds, 1 to {_LONGEST_CONNECT_S}")
