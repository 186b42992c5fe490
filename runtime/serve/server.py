"""Starts and ends the server: its socket, the player's thread and Uvicorn."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from edgeunet.errors import UsageError

from ..frames import Segmented
from ..options import DEFAULTS, LoadOptions
from ..pipeline.stopping import stopping_on_signals
from ..segmenter import Segmenter
from ..sources.named import named
from .app import Bounds, make_app
from .comparison import Comparison, check_options
from .connections import Connections, Listener
from .guard import choose_token, page_url
from .hub import Hubs
from .player import Player
from .recording import Recordings
from .reopening import open_playing
from .telemetry import About, Board, Telemetry
from .tls import load_certificate
from .uploads import Uploads
from .websocket import websocket_protocol

# Seconds that the end of the server may take at most.
_END_TIMEOUT = 4


class Server(uvicorn.Server):
    """Uvicorn, except that signals are left to the caller."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals as they are."""
        yield


def _make_server(
    app: ASGIApp, connections: Connections, bounds: Bounds, tls: ssl.SSLContext | None
) -> Server:
    config = uvicorn.Config(
        connections.watch(app),
        loop="asyncio",
        http=connections.protocol(),
        ws=websocket_protocol(connections),
        ws_max_size=bounds.message,
        ws_ping_interval=None,  # a client that is gone is known by the frames that it does not send
        ws_per_message_deflate=False,  # images are compressed already; messages could be bombs
        lifespan="on",
        interface="asgi3",
        log_config=None,
        log_level="error",  # it warns of each request that is not HTTP: anyone could fill the log
        access_log=False,  # addresses may hold tokens
        server_header=False,
        proxy_headers=False,  # would replace the client's address, by which connections are known
        timeout_graceful_shutdown=_END_TIMEOUT,
    )
    config.load()
    config.ssl = tls
    return Server(config)


@dataclass(frozen=True)
class Service:
    """A server that is ready to run. url: of the page, with the token if it was made here."""

    url: str
    server: Server
    hubs: Hubs
    player: Player
    uploads: Uploads
    recordings: Recordings | None
    connections: Connections
    listening: Listener

    def run(self) -> None:
        """Serve until `stop` is called or, in the main thread, until SIGINT or SIGTERM."""
        with stopping_on_signals(self.stop):
            self.player.start()
            self.server.run(sockets=[self.listening])

    @property
    def ended(self) -> bool:
        """Whether no thread works any more. One may hang in a camera, or still decode an upload."""
        recorded = self.recordings is None or self.recordings.ended
        return self.player.ended and self.uploads.ended and recorded

    def stop(self) -> None:
        """Make `run` end within seconds; safe in signal handlers and from any thread."""
        self.server.should_exit = True
        self.hubs.close()
        self.player.stop()


@contextmanager
def open_service(
    bundle: str | Path,
    sources: Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    token: str | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    backend: str = "auto",
    options: LoadOptions = DEFAULTS,
    batch: int | None = None,
    temporal: float | None = None,
    compare: str | Path | None = None,
    record: Path | None = None,
    bounds: Bounds = Bounds(),  # noqa: B008  # frozen
    board: Board = Board(),  # noqa: B008  # holds a path alone
) -> Iterator[Service]:
    """A service whose port is open and whose backend passed its self-check; freed at the end.

    Args:
        sources: what `named` takes: cameras, files and folders, side by side, with their names.
        host: address to listen on. All but this machine's own require a token.
        port: 0 for a free one.
        backend, options: see `load`.
        token: None makes one if the host requires it.
        certificate, key: files for https, see `load_certificate`. None serves http.
        batch, temporal: see `Segmenter.stream`.
        compare: a second bundle that segments the same frames, at its own precision; with the
            backend auto at the one that is chosen for it.
        record: folder for films; None: nothing can be recorded.
        bounds: limits on viewers and uploads.
        board: its temperatures and power.

    Raises:
        UsageError: an address that cannot be bound, a token that is too short, or what
            `load_certificate`, `load` and `Segmenter.stream` refuse.
        SourceError: a file that cannot be read.
        ParityError: the backend's masks differ from the reference.
    """
    token, made = choose_token(host, token)
    if key is not None and certificate is None:
        raise UsageError(f"got the key {key} without a certificate. Pass --certificate too.")
    tls = None if certificate is None else load_certificate(certificate, key)
    if compare is not None:
        check_options(options, temporal)
    with ExitStack() as stack:
        connections = Connections(bounds.connections, stall=bounds.stall)
        listening = stack.enter_context(_listening(host, port, connections))
        port = listening.getsockname()[1]
        frames = named(sources)
        for each in frames.values():
            if not each.remote:  # a file that cannot be read fails here, before the bundle loads
                open_playing(each).close()
        segmenter = Segmenter.open_checked(bundle, backend, options)
        hubs = Hubs(frames, viewers=bounds.viewers)
        recordings = None if record is None else Recordings(record, segmenter.manifest.palette)
        if recordings is not None:
            stack.enter_context(recordings)  # ends after the player, which gives it frames
        comparison = None
        if compare is not None:
            second = Segmenter.open_checked(compare, backend, replace(options, precision=None))
            comparison = Comparison(
                segmenter.manifest,
                second,
                bundles=(Path(bundle).resolve().name, Path(compare).resolve().name),
                sources=frames,
            )

        def publish(segmented: Segmented) -> None:
            if recordings is not None:
                recordings.offer(segmented)
            hubs.publish(segmented if comparison is None else comparison(segmented))

        player = Player(
            segmenter,
            {name: partial(open_playing, each) for name, each in frames.items()},
            live=frozenset(name for name, each in frames.items() if each.kind == "live"),
            publish=publish,
            batch=batch,
            temporal=temporal,
        )
        uploads = Uploads(player.segment, bounds.uploads)
        # A thread that still works uses the backend: freeing it would crash.
        stack.callback(lambda: segmenter.close() if player.ended and uploads.ended else None)
        if comparison is not None:
            stack.callback(lambda: comparison.close() if player.ended else None)
        stack.enter_context(player)
        about = About(segmenter.manifest, {name: each.name for name, each in frames.items()})
        telemetry = Telemetry(
            about, player, hubs, board, recordings=recordings, comparison=comparison
        )
        cookie = f"edgeunet_{port}"  # browsers share cookies between the ports of a host
        app = make_app(telemetry, connections, uploads, bounds=bounds, token=token, cookie=cookie)
        yield Service(
            page_url(host, port, token if made else None, scheme="https" if tls else "http"),
            _make_server(app, connections, bounds, tls),
            hubs,
            player,
            uploads,
            recordings,
            connections,
            listening,
        )


@contextmanager
def _listening(host: str, port: int, connections: Connections) -> Iterator[Listener]:
    """A bound socket. A port that is taken fails here, before anything slow."""
    name = host.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        bound = socket.create_server((name, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot listen on {host}:{port}: {reason}. Pass another --host or --port."
        ) from None
    with Listener.of(bound, connections) as listening:
        yield listening
