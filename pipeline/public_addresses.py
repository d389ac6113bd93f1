"""An HTTP client that connects to public addresses alone, whatever a name resolves to and wherever it is redirected."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any


async def public_client(**options: Any) -> Any:
    """As fsspec's HTTP file system asks for its client."""
    import aiohttp  # noqa: PLC0415  # takes a while, and few lists need it

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=public_socket), **options)


def public_socket(address: Any) -> socket.socket:
    """A socket for an address of `getaddrinfo`.

    Raises:
        PermissionError: it is a private, local or reserved one.
    """
    family, kind, protocol, _, (host, *_) = address
    found = ipaddress.ip_address(host.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    if not found.is_global or found.is_multicast:
        raise PermissionError(f"{host} is not a public address")
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    return made
