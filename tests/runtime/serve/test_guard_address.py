"""The address that is printed, on machines whose network is told to the test."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable

import pytest

from edgeunet.runtime.serve import guard
from edgeunet.runtime.serve.guard import page_url

Network = Callable[..., None]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Sets the machine's own addresses, by family; without one there is no route."""
    routes: dict[int, str] = {}

    class Probe:
        def __init__(self, family: int, kind: int) -> None:
            self.family, self.type = family, kind

        def __enter__(self) -> Probe:
            return self

        def __exit__(self, *error: object) -> None: ...

        def connect(self, to: tuple[str, int]) -> None:
            assert self.type == socket.SOCK_DGRAM, "a packet would be sent"
            assert ipaddress.ip_address(to[0]).version == (
                6 if self.family == socket.AF_INET6 else 4
            )
            if self.family not in routes:
                raise OSError(errno.ENETUNREACH, "Network is unreachable")

        def getsockname(self) -> tuple[str, int]:
            return routes[self.family], 40_000

    def set_routes(v4: str | None = None, v6: str | None = None) -> None:
        given = {socket.AF_INET: v4, socket.AF_INET6: v6}
        routes.update({family: own for family, own in given.items() if own is not None})

    monkeypatch.setattr(guard.socket, "socket", Probe)
    monkeypatch.setattr(guard.socket, "gethostname", lambda: "board")
    return set_routes


@pytest.mark.parametrize("host", ["0.0.0.0", ""])
def test_all_addresses_are_told_by_that_of_the_lan(network: Network, host: str) -> None:
    network(v4="192.168.1.7")
    assert page_url(host, 8080, "secret") == "http://192.168.1.7:8080/?token=secret"


@pytest.mark.parametrize("host", ["::", "[::]"])
def test_a_server_of_ipv6_is_told_by_an_address_of_ipv6(network: Network, host: str) -> None:
    network(v4="192.168.1.7", v6="2001:db8:7::1")
    assert page_url(host, 80, None) == "http://[2001:db8:7::1]:80/"


@pytest.mark.parametrize("own", [None, "127.0.0.1", "0.0.0.0"])
def test_without_a_network_the_name_is_told(network: Network, own: str | None) -> None:
    network(v4=own)
    assert page_url("0.0.0.0", 8080, None) == "http://board:8080/"


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("10.0.0.3", "10.0.0.3"),
        ("::1", "[::1]"),
        ("[::1]", "[::1]"),
    ],
)
def test_an_address_that_was_given_is_told_as_it_is(
    network: Network, host: str, named: str
) -> None:
    network(v4="192.168.1.7", v6="2001:db8:7::1")
    assert page_url(host, 80, None) == f"http://{named}:80/"


def test_a_machine_with_or_without_a_network_has_an_address() -> None:
    assert page_url("0.0.0.0", 80, None) not in ("http://0.0.0.0:80/", "http://:80/")
