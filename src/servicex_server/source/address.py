"""Which network addresses a source may connect to."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from servicex_server.errors import SourceRefused, SourceUnavailable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
LOOPBACK = ipaddress.IPv4Address("127.0.0.1")


def is_public(address: Address) -> bool:
    """Whether an address belongs to the open internet, also when it is wrapped into another one."""
    inner = _embedded(address)
    if inner is not None:
        return is_public(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for, if it does."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def from_literal(host: str) -> Address | None:
    """The address that `host` spells out, in any form a resolver takes for one (`127.1`, `0x7f000001`)."""
    bare = host.strip("[]")
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(bare))
    except (OSError, UnicodeEncodeError):
        return None


def is_allowed(host: str, address: Address | None, allowed: Sequence[str]) -> bool:
    """Whether the operator's list `allowed` opens a private address under this host name."""
    name = canonical_host(host)
    return any(_matches(entry.strip(), name, address) for entry in allowed)


def _matches(entry: str, name: str, address: Address | None) -> bool:
    if entry == "*" or canonical_host(entry) == name:
        return True
    if address is None:
        return False
    try:
        return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return False


def canonical_host(host: str) -> str:
    """One spelling per host name: lower case, no brackets, no final dot."""
    return host.strip("[]").rstrip(".").lower()


def resolve(host: str, port: int, allowed: Sequence[str]) -> list[str]:
    """Addresses of `host` that may be connected to, in the resolver's order.

    One forbidden address among them refuses the host: a name that points both inside and outside is
    how one is led inside.

    Raises:
        SourceRefused: an address is loopback, link-local, private or reserved, and not allowed.
        SourceUnavailable: the name does not resolve.
    """
    try:
        answers = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        message = f"the host name {host!r} does not resolve: {error}"
        raise SourceUnavailable(message) from error
    texts = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    for text in texts:
        refuse_private(host, ipaddress.ip_address(text), allowed)
    return texts


def refuse_private(host: str, address: Address, allowed: Sequence[str]) -> None:
    """Raises SourceRefused if `address` is not public and the operator's list does not open it."""
    if is_public(address) or is_allowed(host, address, allowed):
        return
    listed = ", ".join(allowed) or "none"
    message = (
        f"the host {canonical_host(host)!r} lies in a loopback, link-local, private or reserved network, "
        f"which this server does not read from (setting `allowed_private_hosts`: {listed})"
    )
    raise SourceRefused(message)
