"""The server: a socket, the stream's thread, and an end within seconds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from edgeunet.errors import UsageError

from ..pipeline.stopping import stopping_on_signals
from ..segmenter import load
from ..sources import redacted
from .app import Access, Bounds, make_app
from .guard import choose_token, page_url
from .hub import Hub
from .picture_stream import ABORT
from .player import Looped, Player, open_playing
from .telemetry import Board

# Seconds that a connection may take to ask for something.
_SILENT = 20.0
# Seconds that answers under way have when the server ends, and then all that is left.
_GRACE, _END = 1.0, 4
# Connections beside those of the viewers.
_OTHERS = 64


class Server(uvicorn.Server):
    """Uvicorn, its signals left to the caller; silent clients do not keep it from anything."""

    def __init__(self, app: ASGIApp, bounds: Bounds) -> None:
        config = uvicorn.Config(
            self._answer,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,  # tokens stand in addresses
            server_header=False,
            proxy_headers=False,  # connections are told apart by who is at their other end
            limit_concurrency=bounds.viewers + _OTHERS,
            timeout_graceful_shutdown=_END,
        )
        super().__init__(config)
        self._app = app
        self._silent: dict[Any, float] = {}

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals as they are."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: cut those whose request does not arrive."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            # Uvicorn's own timeout ends with the first byte of a request; this with the last.
            silent = [
                (connection, connection.cycle)
                for connection in self._connections
                if connection.cycle is None or connection.cycle.response_complete
            ]
            self._silent = {key: self._silent.get(key, now) for key in silent}
            for (connection, _), since in self._silent.items():
                if now - since > _SILENT:
                    connection.transport.abort()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers under way end, for a moment."""
        asyncio.get_running_loop().call_later(_GRACE, self._abort_all)
        await super().shutdown(sockets)

    @property
    def _connections(self) -> set[Any]:
        """Uvicorn's, which are all of its `H11Protocol`."""
        return self.server_state.connections

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[ABORT] = partial(self._abort, scope["client"])
        await self._app(scope, receive, send)

    async def _abort(self, client: tuple[str, int]) -> None:
        """Cut a connection; to close it would wait for the client to read."""
        for connection in list(self._connections):
            if connection.client == client:
                connection.transport.abort()
        await asyncio.sleep(0)  # for Uvicorn to see that it is gone

    def _abort_all(self) -> None:
        for connection in list(self._connections):
            connection.transport.abort()


@dataclass(frozen=True)
class Service:
    """A server that is ready to run. url: of the page, with the token where it was made here."""

    url: str
    server: Server
    hub: Hub
    player: Player
    listening: socket.socket

    def run(self) -> None:
        """Serve until `stop`, which may be called from any thread and from signal handlers."""
        self.player.start()
        self.server.run(sockets=[self.listening])

    def stop(self) -> None:
        """Let `run` end within seconds."""
        self.server.should_exit = True
        self.hub.close()
        self.player.stop()


def serve(
    bundle: str | Path,
    source: str,
    *,
    announce: Callable[[str], None] = lambda url: None,
    **arguments: Any,
) -> None:
    """Show a source, segmented, on a page of its own until SIGINT or SIGTERM.

    Args:
        source: see `Frames.open`; what has an end plays in a loop, in real time.
        announce: told the page's address once it can be opened, with the token where it was made.
        arguments: those of `open_service`.

    Raises:
        See `open_service`.
    """
    with (
        open_service(bundle, source, **arguments) as service,
        stopping_on_signals(service.stop),
    ):
        announce(service.url)
        service.run()


@contextmanager
def open_service(
    bundle: str | Path,
    source: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    token: str | None = None,
    backend: str = "auto",
    batch: int = 1,
    temporal: float | None = None,
    bounds: Bounds = Bounds(),  # noqa: B008  # frozen
    board: Board = Board(),  # noqa: B008  # holds a path alone
    **arguments: Any,
) -> Iterator[Service]:
    """A service that listens already, with its backend checked; it is freed at the end.

    Args:
        host: address to listen on. Any but this machine's own asks for a token.
        port: 0 for a free one.
        token: None to make one where one is asked for.
        batch, temporal: see `Segmenter.stream`.
        arguments: `precision`, `tiling`, `target_fps` and those of the backend, see `load`.

    Raises:
        UsageError: an address that cannot be listened on, a token that is too short, or what
            `load` and `Segmenter.stream` refuse.
        SourceError: a file that cannot be read. ParityError: the backend computes other masks.
    """
    token, made = choose_token(host, token)
    with ExitStack() as stack:
        listening = stack.enter_context(_listening(host, port))
        port = listening.getsockname()[1]
        stack.callback(cv2.setNumThreads, cv2.getNumThreads())
        cv2.setNumThreads(1)  # the stages run beside each other, see `run`
        with open_playing(source) as opened:  # a file that is not there is said at once
            live = not isinstance(opened, Looped)
        segmenter = load(bundle, backend, **arguments)
        segmenter.self_check()
        # What is wrong with the call is said here; the player would take it for a source's fault.
        segmenter.stream([], batch=batch, temporal=temporal).close()
        hub = Hub(viewers=bounds.viewers)
        player = Player(
            segmenter,
            partial(open_playing, source),
            publish=hub.publish,
            batch=batch,
            temporal=temporal,
        )
        # A thread that hangs in a camera keeps its backend: freed under it, it would crash.
        stack.callback(lambda: segmenter.close() if player.ended else None)
        stack.enter_context(player)
        app = make_app(
            segmenter,
            player,
            hub,
            source=redacted(source),
            live=live,
            access=Access(token, f"edgeunet_{port}"),
            bounds=bounds,
            board=board,
        )
        url = page_url(host, port, token if made else None)
        yield Service(url, Server(app, bounds), hub, player, listening)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that is bound: that a port is taken shows before anything slow is done."""
    name = host.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        listening = socket.create_server((name, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{host}:{port} cannot be listened on: {reason}. Pass another --host or --port."
        ) from None
    with listening:
        yield listening
