"""The open connections of the server, and when it cuts one."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from anyio import sleep
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds that a client may take to send the head of its next request.
REQUEST_TIMEOUT = 20.0
_CHECK_EVERY = 0.5

Address = tuple[str, int]


@dataclass
class _Connection:
    """requests: being answered now, several if pipelined. idle_since: when the last one ended."""

    transport: asyncio.Transport
    requests: int = 0
    idle_since: float = field(default_factory=time.monotonic)


class Connections:
    """All open connections, by the address of the client.

    Cutting a connection drops what is still to be sent. Closing would wait for the client to read.
    """

    def __init__(self) -> None:
        self._open: dict[Address, _Connection] = {}

    @property
    def transports(self) -> list[asyncio.Transport]:
        """The transports of all open connections."""
        return [connection.transport for connection in self._open.values()]

    def cut(self, client: Address) -> None:
        """Cut the connection of the client at this address, if it is still open."""
        if (connection := self._open.get(client)) is not None:
            connection.transport.abort()

    def cut_all(self) -> None:
        """Cut every connection."""
        for transport in self.transports:
            transport.abort()

    async def cut_idle(self) -> None:
        """Cut connections on which no request arrives in time; runs until cancelled.

        Uvicorn's keep-alive timeout stops at the first byte of a request, this one at the end of
        its head.
        """
        while True:
            for connection in list(self._open.values()):
                idle = time.monotonic() - connection.idle_since
                if connection.requests == 0 and idle > REQUEST_TIMEOUT:
                    connection.transport.abort()
            await sleep(_CHECK_EVERY)

    def watch(self, app: ASGIApp) -> ASGIApp:
        """Wrap `app` so that a connection is not idle while `app` answers."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            connection = self._open.get(scope["client"]) if scope["type"] == "http" else None
            if connection is None:
                await app(scope, receive, send)
                return
            connection.requests += 1
            try:
                await app(scope, receive, send)
            finally:
                connection.requests -= 1
                connection.idle_since = time.monotonic()

        return watched

    def protocol(self) -> type[asyncio.Protocol]:
        """An HTTP/1.1 protocol for `uvicorn.Config(http=...)` that lists its connections here."""
        opened = self._open

        class Protocol(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                # A client that has left already has no address.
                peer = transport.get_extra_info("peername") or ("", 0)
                self._address = peer[:2]
                opened[self._address] = _Connection(transport)

            def connection_lost(self, exc: Exception | None) -> None:
                opened.pop(self._address, None)
                super().connection_lost(exc)

        return Protocol
