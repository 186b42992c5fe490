"""The address that a page is opened at."""

from __future__ import annotations

import ipaddress
import socket

# Addresses of documentation, which hardly a LAN has: the way there is the default route.
_OUTSIDE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def page_url(host: str, port: int, token: str | None) -> str:
    """Where others find a server that listens on `host`; with the token, if one is given.

    A server on all addresses is told by the one that this machine has in its LAN, or by its name
    where it has none: many networks do not resolve the names of their machines.
    """
    name = host.strip("[]")
    if name in ("", "0.0.0.0", "::"):  # noqa: S104
        family = socket.AF_INET6 if name == "::" else socket.AF_INET
        name = _own_address(family) or socket.gethostname()
    if ":" in name:
        name = f"[{name}]"
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


def _own_address(family: socket.AddressFamily) -> str | None:
    """Address that this machine speaks to others from, None where it has no way to them."""
    try:
        # Connecting UDP chooses a route and with it an address; nothing is sent.
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_OUTSIDE[family], 9))
            address: str = probe.getsockname()[0]
    except OSError:
        return None
    found = ipaddress.ip_address(address)
    return None if found.is_loopback or found.is_unspecified else address
