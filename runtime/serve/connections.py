"""The open connections of the server: which ones it takes, and which ones it cuts."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h11
from anyio import move_on_after, sleep
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 512
"""Most connections at once. One address may hold half of them."""
STALL = 10.0
"""Seconds for which a client may read nothing of its answer."""
# Seconds that a client may take to send the head of its next request.
REQUEST_TIMEOUT = 20.0
_CHECK_EVERY = 0.5
# Connections of an address that do not give way while another address holds more.
_KEPT = 8
# Bytes that are parsed at once. h11 limits a head that is incomplete, to 16 KiB, but parses any
# head that arrives in one piece.
_PIECE = 16_384
# Ends of lines in a piece of a chunked body. Each chunk has two, and takes the time of a request:
# chunks of a few bytes would block all others.
_MOST_LINES = 256
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Address = tuple[str, int]


def network_of(host: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 network that an IPv6 client owns.

    >>> network_of("2001:db8:0:7::beef"), network_of("192.0.2.7")
    ('2001:db8:0:7::/64', '192.0.2.7')
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a client that has left already has no address
        return host
    if address.version == 4 or address.is_loopback:
        return host
    return str(ipaddress.ip_network((int(address), 64), strict=False))


class _Accepted(socket.socket):
    """A socket that says when it is closed: a handshake of TLS may end before HTTP begins."""

    when_closed: Callable[[], None] | None = None

    def close(self) -> None:
        super().close()
        told, self.when_closed = self.when_closed, None
        if told is not None:
            told()


@dataclass(eq=False)
class Connection:
    """A connection, and what it has done.

    transport, parser: of HTTP; None before it begins, as in a handshake of TLS. requests: being
    answered, several if pipelined. receiving: whether a WebSocket waits for the next message.
    idle_since: when the last request ended. heard: when the client last sent something, or an
    answer ended. cut: whether it is ending.
    """

    network: str
    socket: socket.socket
    transport: asyncio.Transport | None = None
    parser: h11.Connection | None = None
    requests: int = 0
    receiving: bool = False
    idle_since: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    cut: bool = False

    @property
    def waits(self) -> bool:
        """Whether the server waits for the client: for a request, or for the rest of one."""
        half = self.parser is not None and self.parser.their_state is h11.SEND_BODY
        return self.requests == 0 or self.receiving or half

    def abort(self) -> None:
        """Drop the connection, and what is still to be sent: closing would wait for the client."""
        self.cut = True
        if self.transport is not None:
            self.transport.abort()
        else:  # asyncio reads the end, and closes it
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)


class Connections:
    """All open connections, by the address of the client.

    If there are too many, the one gives way whose client has been silent longest.

    Args:
        most: connections at once; less if the process may open fewer than twice as many files.
            The rest is left to the source, which opens its file again and again.
        stall: seconds for which a client may read nothing of its answer.
    """

    def __init__(self, most: int = CONNECTIONS, *, stall: float = STALL) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.most = most if files == resource.RLIM_INFINITY else min(most, files // 2)
        self._most_of_one = max(1, self.most // 2)
        self._stall = stall
        self._open: dict[Address, Connection] = {}
        # Open ones by network, from the moment when they are accepted until they are closed.
        self._held: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Number of open connections."""
        return self._held.total()

    def make_way(self) -> bool:
        """Whether the next connection must wait for the next turn of the event loop.

        If it is full, one is cut, which frees its file descriptor in one of the next turns.
        """
        if self.count < self.most:
            return False
        return any(connection.cut for connection in self._open.values()) or self.cut_silent()

    @property
    def transports(self) -> list[asyncio.Transport]:
        """The transports of all open connections."""
        found = (connection.transport for connection in self._open.values())
        return [transport for transport in found if transport is not None]

    def cut_all(self) -> None:
        """Cut every connection."""
        for connection in list(self._open.values()):
            connection.abort()

    async def cut_idle(self) -> None:
        """Cut connections on which no request arrives in time; runs until cancelled.

        Uvicorn's keep-alive timeout stops at the first byte of a request, this one at the end of
        its head. It also ends handshakes of TLS, and answers that nobody reads.
        """
        while True:
            for connection in list(self._open.values()):
                idle = time.monotonic() - connection.idle_since
                if connection.requests == 0 and idle > REQUEST_TIMEOUT:
                    connection.abort()
            await sleep(_CHECK_EVERY)

    def cut_silent(self, network: str | None = None) -> bool:
        """Cut the connection whose client has been silent longest; False if there is none.

        Args:
            network: whose connection it must be; None: of one that holds many, if there is any.
        """
        silent = [
            connection
            for connection in self._open.values()
            if connection.waits and not connection.cut and network in (None, connection.network)
        ]
        of_many = [found for found in silent if self._held[found.network] > _KEPT]
        oldest = min(of_many or silent, key=lambda found: found.heard, default=None)
        if oldest is not None:
            oldest.abort()
        return oldest is not None

    def admit(self, accepted: socket.socket, address: Address) -> socket.socket | None:
        """Take a new connection, for which one of the same network may have to give way.

        Returns:
            The socket to use in its place, None if there is no room for it.
        """
        network = network_of(address[0])
        if self.count >= self.most:
            return None
        if self._held[network] >= self._most_of_one and not self.cut_silent(network):
            return None
        taken = _Accepted(accepted.family, accepted.type, accepted.proto, accepted.detach())
        connection = Connection(network, taken)
        taken.when_closed = partial(self._closed, address, connection)
        self._open[address] = connection
        self._held[network] += 1
        return taken

    def _closed(self, address: Address, connection: Connection) -> None:
        # The client may have opened another one from the same port.
        if self._open.get(address) is connection:
            del self._open[address]
        self._held[connection.network] -= 1
        if not self._held[connection.network]:
            del self._held[connection.network]

    def of(self, transport: asyncio.Transport) -> Connection:
        """The connection that a transport belongs to."""
        address = transport.get_extra_info("peername")[:2]
        found = self._open.get(address)
        return found or Connection(network_of(address[0]), transport.get_extra_info("socket"))

    def watch(self, app: ASGIApp) -> ASGIApp:
        """Wrap `app`: its connection is not idle meanwhile, and cut if the client reads nothing."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            connection = None if scope["type"] == "lifespan" else self._open.get(scope["client"])
            if connection is None:
                await app(scope, receive, send)
                return

            async def send_in_time(message: Message) -> None:
                with move_on_after(self._stall) as timeout:
                    await send(message)
                if timeout.cancelled_caught:
                    connection.abort()  # the application sees that, and ends

            async def receive_noted() -> Message:
                connection.receiving = scope["type"] == "websocket"
                try:
                    return await receive()
                finally:
                    connection.receiving = False

            connection.requests += 1
            try:
                await app(scope, receive_noted, send_in_time)
            finally:
                connection.requests -= 1
                connection.idle_since = connection.heard = time.monotonic()

        return watched

    def protocol(self) -> type[asyncio.Protocol]:
        """An HTTP/1.1 protocol for `uvicorn.Config(http=...)` that lists its connections here."""
        connection_of = self.of

        class Protocol(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                self._entry = connection_of(transport)
                self._entry.transport, self._entry.parser = transport, self.conn

            def data_received(self, data: bytes) -> None:
                self._entry.heard = time.monotonic()
                for start in range(0, len(data), _PIECE):
                    if self.transport.is_closing():
                        return
                    piece = data[start : start + _PIECE]
                    if self._gets_chunks() and piece.count(b"\r\n") > _MOST_LINES:
                        self._entry.abort()
                        return
                    super().data_received(piece)

            def _should_upgrade(self) -> bool:
                # Other methods cannot; websockets before 17 has no answer to them.
                return self.scope["method"] == "GET" and super()._should_upgrade()

            def _gets_chunks(self) -> bool:
                in_body = self.conn.their_state is h11.SEND_BODY
                return in_body and any(name == b"transfer-encoding" for name, _ in self.headers)

        return Protocol


class Listener(socket.socket):
    """A listening socket that hands out no more connections than `Connections` takes."""

    connections: Connections

    @classmethod
    def of(cls, listening: socket.socket, connections: Connections) -> Listener:
        """Take over a listening socket."""
        taken = cls(listening.family, listening.type, listening.proto, listening.detach())
        taken.connections = connections
        return taken

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection that there is room for.

        Raises:
            BlockingIOError, ConnectionAbortedError: asyncio asks again in its next turn.
        """
        if self.connections.make_way():
            raise BlockingIOError
        try:
            accepted, address = super().accept()
        except OSError as error:
            if error.errno in _OUT_OF_DESCRIPTORS and self.connections.cut_silent():
                raise BlockingIOError from None
            raise  # asyncio logs it, and waits for a second
        taken = self.connections.admit(accepted, address[:2])
        if taken is None:
            accepted.close()
            raise ConnectionAbortedError
        return taken, address
