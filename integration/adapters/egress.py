"""Where integration may connect to: every address is checked after the name was resolved, and then pinned.

`Guard` decides, `open_target` reads an address from a stranger, `GuardedNetwork` is the network for httpcore: it
resolves a name, asks the guard about every address that came of it, and connects to one of exactly those, so that a
second answer of the name server changes nothing. How HTTP is spoken over it is `integration.adapters.http_client`'s.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

import httpcore
import httpx

from integration.errors import LocationForbiddenError, SystemUnavailableError
from mesh.config import SettingsError

__all__ = ["Guard", "GuardedNetwork", "Resolver", "check_port", "open_target", "plain_host", "resolve"]

Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host name, as text."""

_Address: TypeAlias = IPv4Address | IPv6Address
_ALWAYS = (
    ("metadata", "169.254.169.254/32 169.254.170.2/32 168.63.129.16/32"),
    ("metadata", "100.100.100.200/32 192.0.0.192/32 fd00:ec2::/32"),
    ("loopback", "127.0.0.0/8 ::1/128"),
    ("link-local", "169.254.0.0/16 fe80::/10"),
    ("unspecified", "0.0.0.0/8 ::/128"),
    ("multicast", "224.0.0.0/4 ff00::/8"),
    ("reserved", "240.0.0.0/4 192.0.0.0/24 192.0.2.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24"),
    ("reserved", "fec0::/10 100::/64 2001:db8::/32 64:ff9b:1::/48 5f00::/16"),
)
"""Networks that nobody reaches on purpose, after IANA's special-purpose registries (RFC 6890) and the metadata
services of the clouds."""
_PRIVATE = "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7"
"""Private networks: RFC 1918, shared address space (RFC 6598), unique local addresses (RFC 4193)."""
_NAMED = tuple(
    (kind, ip_network(network)) for kind, networks in (*_ALWAYS, ("private", _PRIVATE)) for network in networks.split()
)
_EMBEDDING = (
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("::ffff:0:0:0/96"), 0),
    (IPv6Network("2002::/16"), 80),
    (IPv6Network("::/96"), 0),
)
"""IPv6 networks that carry an IPv4 address (RFC 6052, 2765, 3056, 4291), and how far from the right it stands."""
_BAD_PORTS = frozenset(
    {
        0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
        110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530,
        531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190,
        5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
    }
)  # fmt: skip
"""Ports at which other protocols listen: the Fetch standard's list of bad ports."""
_NEXT_S = 2.0
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_NUMERIC = re.compile(r"([0-9]+|0x[0-9a-f]*)")


@dataclass(frozen=True, slots=True)
class Guard:
    """Which hosts may be reached.

    Attributes:
        hosts: `host` or `host:port` that may lead anywhere.
        networks: that may be reached by any name.
        private: whether private networks may be reached.
    """

    hosts: frozenset[str] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    private: bool = False

    @staticmethod
    def of(hosts: Iterable[str], networks: Iterable[str], *, private: bool) -> Guard:
        """A guard by the operator's settings.

        Raises:
            SettingsError: one of the networks is none.
        """
        try:
            read = tuple(ip_network(network.strip()) for network in networks)
        except ValueError as error:
            raise SettingsError(f"integration.allowed_networks: {error}; write 10.1.0.0/16 or fd00::/8") from None
        return Guard(frozenset(host.strip().lower().rstrip(".") for host in hosts), read, private)

    def names(self, host: str, port: int) -> bool:
        """Whether the operator has named this host."""
        bracketed = f"[{host}]" if ":" in host else host
        return bool({host, bracketed, f"{bracketed}:{port}"} & self.hosts)

    def check(self, host: str, port: int, address: str, *, public: bool = True) -> None:
        """Refuse an address that a name has led to.

        Args:
            host: the name, as `open_target` returns it.
            port: where to.
            address: what it was resolved to.
            public: false where only what the operator has named will do, because nothing is encrypted.

        Raises:
            LocationForbiddenError: it may not be reached; the message says which setting would allow it.
        """
        given = ip_address(address)
        found = _unwrapped(given)
        if self.names(host, port) or any(given in network or found in network for network in self.networks):
            return
        kind = next((kind for kind, network in _NAMED if found in network), "")
        if not kind and not found.is_global:
            kind = "reserved"
        if kind == "private" and self.private:
            return
        if kind:
            also = " or integration.private_networks" if kind == "private" else ""
            raise LocationForbiddenError(
                f"{host} leads to {found}, a {kind} address, which the operator has not allowed "
                f"(integration.allowed_hosts, integration.allowed_networks{also})",
                host=host,
                kind=kind,
            )
        if not public:
            raise LocationForbiddenError(
                f"{host} is reached without TLS, which is only allowed with hosts that the operator has named "
                "(integration.allowed_hosts, integration.allowed_networks); use TLS",
                host=host,
                kind="plaintext",
            )


def open_target(uri: str) -> httpx.URL:
    """A URL from a stranger, with one meaning only.

    Raises:
        LocationForbiddenError: it is none, of another scheme, or made to be misread.
    """
    if not uri.isprintable() or any(character in uri for character in ' \\"<>^`{|}'):
        raise LocationForbiddenError("the address holds characters that no URL has; percent-encode them")
    try:
        url = httpx.URL(uri)
    except httpx.InvalidURL as error:
        raise LocationForbiddenError(f"the address is no URL: {error}") from None
    if url.scheme not in ("http", "https"):
        raise LocationForbiddenError("the address must begin with https:// or http://", scheme=url.scheme)
    if url.userinfo:
        raise LocationForbiddenError("the address must not hold a user name or password")
    check_port((443 if url.scheme == "https" else 80) if url.port is None else url.port)
    return url.copy_with(host=plain_host(url.raw_host.decode("ascii")), fragment=None)


def check_port(port: int) -> None:
    """Refuse ports at which HTTP and gRPC are not spoken.

    Raises:
        LocationForbiddenError: it is one of those, or no port.
    """
    if port in _BAD_PORTS or not 0 < port < 65536:
        raise LocationForbiddenError(f"port {port} is not one that may be connected to", port=port)


def plain_host(host: str) -> str:
    """A host in its one plain form: lower case, no dot at the end, an address only as four numbers or as IPv6.

    Raises:
        LocationForbiddenError: it is another spelling of an address, or no host at all.
    """
    host = host.lower().removeprefix("[").removesuffix("]")
    if ":" in host:
        try:
            return str(IPv6Address(host.partition("%")[0]))
        except ValueError:
            raise LocationForbiddenError("the address names no host") from None
    host = host.removesuffix(".")
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise LocationForbiddenError("the address names no host")
    if _NUMERIC.fullmatch(host.rpartition(".")[2]):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise LocationForbiddenError(
                f"{host} is another spelling of an IPv4 address; write four decimal numbers"
            ) from None
    return host


async def resolve(host: str, port: int) -> Sequence[str]:
    """What the system's resolver says.

    Raises:
        SystemUnavailableError: the name has no address.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=1)
    except OSError as error:
        raise SystemUnavailableError(f"{host} has no address: {error.strerror or error}", host=host) from None
    return list(dict.fromkeys(str(each[4][0]) for each in found))


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """A network on which only what the guard allows is there.

    Args:
        guard: decides.
        resolver: finds addresses.
        public: as `Guard.check`.
    """

    def __init__(self, guard: Guard, resolver: Resolver = resolve, *, public: bool = True) -> None:
        self._guard = guard
        self._resolver = resolver
        self._public = public
        self._network = httpcore.AnyIOBackend()

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host, each of them allowed.

        Raises:
            LocationForbiddenError: one of them is not.
            SystemUnavailableError: there is none.
        """
        found = await self._resolver(host, port)
        if not found:
            raise SystemUnavailableError(f"{host} has no address", host=host)
        for address in found:
            self._guard.check(host, port, address, public=self._public)
        return found

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to one of the host's addresses, the first that answers; none but the last is waited for long."""
        failed: Exception | None = None
        addresses = await self.addresses(host, port)
        for address in addresses:
            bound_s = timeout if address == addresses[-1] else min(timeout or _NEXT_S, _NEXT_S)
            try:
                return await self._network.connect_tcp(address, port, bound_s, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        assert failed is not None  # noqa: S101 -- there was at least one address
        raise failed

    async def connect_unix_socket(
        self,
        path: str,  # noqa: ARG002 -- httpcore's interface
        timeout: float | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: there is no such socket out there."""
        raise LocationForbiddenError("sockets of this machine are not reached")

    async def sleep(self, seconds: float) -> None:
        """Pause."""
        await asyncio.sleep(seconds)


def _unwrapped(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 address carries, if it carries one."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.teredo is not None:
        return address.teredo[1]
    for network, shift in _EMBEDDING:
        if address in network and int(address) > 1:
            return IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
    return IPv6Address(int(address))  # without the scope
