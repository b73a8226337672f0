"""A host's name -> the addresses to connect to, each of which may be connected to.

Names are resolved once. What is checked here is what is connected to, so that a name that has another address
at its next resolution (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from actionrec.errors import ClipError
from aiohttp.abc import AbstractResolver, ResolveResult

RESOLVE_SECONDS = 10.0

Address = IPv4Address | IPv6Address

# Forms of IPv6 addresses that stand for one of IPv4: (network, bits to the right of it).
_NAT64 = (IPv6Network("64:ff9b::/96"), 0)
_CARRIERS = (
    (IPv6Network("::ffff:0:0/96"), 0),  # mapped
    (IPv6Network("::/96"), 0),  # compatible, out of use
    (IPv6Network("::ffff:0:0:0/96"), 0),  # translated (RFC 2765)
    _NAT64,
    (IPv6Network("2002::/16"), 80),  # 6to4
)
_NEVER = (
    IPv6Network("64:ff9b:1::/48"),  # NAT64 of a local network
    IPv6Network("2001::/32"),  # Teredo: the address of IPv4 in it is obfuscated
    IPv6Network("fec0::/10"),  # site-local, out of use
)
_UNICAST = IPv6Network("2000::/3")
"""All that is given out to public hosts; newer kinds of addresses lie elsewhere."""
_ISATAP = 0x5EFE
"""Bits 32 to 64 of an interface that carries an IPv4 address behind them, with or without the universal bit."""


def may_connect(address: Address, *, private: bool = False) -> bool:
    """Whether an address may be connected to.

    Args:
        address: of a host.
        private: whether those of private networks and of this machine may be. Link-local ones, where clouds
            keep their credentials, and those of many hosts are never allowed.
    """
    if isinstance(address, IPv6Address):
        if any(address in network for network in _NEVER) or address.scope_id is not None:
            return False
        carried = _carried(address)
        if carried is not None:
            return may_connect(carried, private=private)
    if address.is_multicast or address.is_link_local or address.is_unspecified:
        return False
    if private and (address.is_loopback or address.is_private or address in _SHARED):
        return not _is_odd(address)
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    return address.is_global and not (address.is_private or address.is_loopback or address.is_reserved)


class _Shared:
    def __contains__(self, address: Address) -> bool:
        return isinstance(address, IPv4Address) and int(address) >> 22 == int(IPv4Address("100.64.0.0")) >> 22


_SHARED = _Shared()
"""Of a provider's network (RFC 6598): 100.64.0.0/10."""


def _is_odd(address: Address) -> bool:
    """This network, broadcast and reserved ones."""
    if isinstance(address, IPv4Address):
        return int(address) >> 24 == 0 or int(address) >> 28 == 15
    return address.is_reserved and not address.is_loopback


def _carried(address: IPv6Address) -> IPv4Address | None:
    if address.is_loopback or address.is_unspecified:
        return None
    for network, shift in _CARRIERS:
        if address in network:
            return IPv4Address(int(address) >> shift & 0xFFFFFFFF)
    if int(address) >> 32 & 0xFDFFFFFF == _ISATAP:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


@dataclass(frozen=True, slots=True)
class Resolved:
    """A host that may be connected to."""

    host: str
    port: int
    addresses: tuple[Address, ...]


async def resolve(host: str, port: int, *, private: bool = False) -> Resolved:
    """Look a host up, once.

    Args:
        host: a name or an address.
        port: for the name's service.
        private: see `may_connect`.

    Raises:
        ClipError: 403, one of its addresses may not be connected to; 502, it has none.
    """
    try:
        found = await asyncio.wait_for(
            asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM), RESOLVE_SECONDS
        )
        addresses = tuple(dict.fromkeys(ip_address(entry[4][0]) for entry in found))
    except (OSError, TimeoutError, UnicodeError, ValueError) as error:
        raise ClipError(
            "FETCH_FAILED", 502, f"The name {host} has no address.", "Is it spelt right?"
        ) from error
    # All of them: with one good and one bad it would be chance which one is connected to.
    if not addresses or not all(may_connect(address, private=private) for address in addresses):
        raise ClipError(
            "FETCH_REFUSED",
            403,
            f"{host} has an address that this server does not connect to.",
            "Only public addresses are connected to, unless the server's operator allows private ones.",
        )
    return Resolved(host, port, addresses)


class Pinned(AbstractResolver):
    """For a connector: the addresses that were checked, and no other look-up.

    Args:
        resolved: the only host that is known.
    """

    def __init__(self, resolved: Resolved) -> None:
        self._resolved = resolved

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002  # both are given
    ) -> list[ResolveResult]:
        """The addresses of the one host."""
        if host.lower().removesuffix(".") != self._resolved.host:
            raise OSError(f"{host} was not checked")
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET6 if address.version == 6 else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in self._resolved.addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""
