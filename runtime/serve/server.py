"""Starts and ends the server: its socket, the player's thread and Uvicorn."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from edgeunet.errors import UsageError

from ..options import DEFAULTS, LoadOptions
from ..pipeline.stopping import stopping_on_signals
from ..segmenter import Segmenter
from ..sources import redacted
from .app import Bounds, make_app
from .connections import Connections
from .guard import choose_token, page_url
from .hub import Hub
from .player import Looped, Player, open_playing
from .telemetry import About, Board, Telemetry

# Connections beside those of the viewers.
_OTHER_CONNECTIONS = 64
# Seconds that the end of the server may take at most.
_END_TIMEOUT = 4


class Server(uvicorn.Server):
    """Uvicorn, except that signals are left to the caller."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals as they are."""
        yield


def _make_server(app: ASGIApp, connections: Connections, bounds: Bounds) -> Server:
    config = uvicorn.Config(
        connections.watch(app),
        loop="asyncio",
        http=connections.protocol(),
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,  # addresses may hold tokens
        server_header=False,
        proxy_headers=False,  # would replace the client's address, by which connections are known
        limit_concurrency=bounds.viewers + _OTHER_CONNECTIONS,
        timeout_graceful_shutdown=_END_TIMEOUT,
    )
    return Server(config)


@dataclass(frozen=True)
class Service:
    """A server that is ready to run. url: of the page, with the token if it was made here."""

    url: str
    server: Server
    hub: Hub
    player: Player
    connections: Connections
    listening: socket.socket

    def run(self) -> None:
        """Serve until `stop` is called or, in the main thread, until SIGINT or SIGTERM."""
        with stopping_on_signals(self.stop):
            self.player.start()
            self.server.run(sockets=[self.listening])

    def stop(self) -> None:
        """Make `run` end within seconds; safe in signal handlers and from any thread."""
        self.server.should_exit = True
        self.hub.close()
        self.player.stop()


@contextmanager
def open_service(
    bundle: str | Path,
    source: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    token: str | None = None,
    backend: str = "auto",
    options: LoadOptions = DEFAULTS,
    batch: int = 1,
    temporal: float | None = None,
    bounds: Bounds = Bounds(),  # noqa: B008  # frozen
    board: Board = Board(),  # noqa: B008  # holds a path alone
) -> Iterator[Service]:
    """A service whose port is open and whose backend passed its self-check; freed at the end.

    Args:
        host: address to listen on. All but this machine's own require a token.
        port: 0 for a free one.
        backend, options: see `load`.
        token: None makes one if the host requires it.
        batch, temporal: see `Segmenter.stream`.
        bounds: limits on viewers and uploads.
        board: its temperatures and power.

    Raises:
        UsageError: an address that cannot be bound, a token that is too short, or what `load` and
            `Segmenter.stream` refuse.
        SourceError: a file that cannot be read.
        ParityError: the backend's masks differ from the reference.
    """
    token, made = choose_token(host, token)
    with ExitStack() as stack:
        listening = stack.enter_context(_listening(host, port))
        port = listening.getsockname()[1]
        with open_playing(source) as opened:  # a missing file fails here, before the bundle loads
            live = not isinstance(opened, Looped)
        segmenter = Segmenter.open(bundle, backend, options)
        segmenter.self_check()
        hub, connections = Hub(viewers=bounds.viewers), Connections()
        player = Player(
            segmenter,
            partial(open_playing, source),
            publish=hub.publish,
            batch=batch,
            temporal=temporal,
        )
        # If the thread hangs in a camera it still uses the backend: freeing it would crash.
        stack.callback(lambda: segmenter.close() if player.ended else None)
        stack.enter_context(player)
        about = About(segmenter.manifest, redacted(source), live)
        telemetry = Telemetry(about, player, hub, board)
        cookie = f"edgeunet_{port}"  # browsers share cookies between the ports of a host
        app = make_app(telemetry, connections, token=token, cookie=cookie, bounds=bounds)
        yield Service(
            page_url(host, port, token if made else None),
            _make_server(app, connections, bounds),
            hub,
            player,
            connections,
            listening,
        )


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket. A port that is taken fails here, before anything slow."""
    name = host.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        listening = socket.create_server((name, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot listen on {host}:{port}: {reason}. Pass another --host or --port."
        ) from None
    with listening:
        yield listening
