"""The web application: its routes, and what runs beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from anyio import CapacityLimiter, create_task_group, sleep, to_thread
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from ..frames import Segmented
from ..sinks import encode_mask
from ..sinks.jsonlines import segments
from .camera import Cameras, no_websocket
from .connections import CONNECTIONS, STALL, Connections
from .guard import Guard
from .hub import VIEWERS
from .metrics import make_registry
from .picture_stream import BOUNDARY, PictureStream, jpeg_part
from .pictures import IDLE_RECORD, overlaid, record
from .telemetry import Telemetry
from .uploads import Limits, Refusal, Uploads

PAGE = Path(__file__).parent / "page"
_RECORD = "application/octet-stream"
_NO_STORE = {"Cache-Control": "no-store"}
# Seconds that answers may still take when the server ends. Then all connections are cut.
_GRACE = 1.0


@dataclass(frozen=True)
class Bounds:
    """What the server accepts.

    connections: at once, half of them from one address. stall: seconds after which a client that
    reads nothing of its answer is cut.
    """

    viewers: int = VIEWERS
    connections: int = CONNECTIONS
    stall: float = STALL
    uploads: Limits = field(default_factory=Limits)

    @property
    def message(self) -> int:
        """Most bytes of a camera's frame: one of each viewer is as much as may arrive at once."""
        return max(1, min(self.uploads.size, self.uploads.arriving // self.viewers))


class Pages:
    """What the routes answer with."""

    def __init__(
        self, telemetry: Telemetry, connections: Connections, uploads: Uploads, message: int
    ) -> None:
        self._telemetry = telemetry
        self._hub = telemetry.hub
        self._connections = connections
        self._manifest = telemetry.about.manifest
        self._uploads = uploads
        self._message = message
        self._record = partial(record, classes=len(self._manifest.classes))
        self._records = PictureStream(
            self._hub,
            self._record,
            media_type=_RECORD,
            wrap=lambda content: content,
            idle=IDLE_RECORD,
        )
        self._jpegs = PictureStream(
            self._hub,
            partial(overlaid, palette=self._manifest.palette),
            media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}",
            wrap=jpeg_part,
            idle=None,
        )
        self._cameras = Cameras(
            self._hub, uploads, {"record": self._camera_record, "png": self._camera_png}
        )
        self._registry = make_registry(telemetry, uploads)
        # One at a time: it counts the pixels of a frame, and other answers need threads too.
        self._one_measures = CapacityLimiter(1)

    def routes(self) -> list[BaseRoute]:
        """All routes."""
        return [
            Route("/", self._page),
            Route("/stats", self._stats),
            Route("/stream", self._records, methods=["GET"]),
            Route("/stream.mjpg", self._jpegs, methods=["GET"]),
            Route("/segment", self._segment, methods=["POST"]),
            WebSocketRoute("/camera", self._cameras.serve),
            WebSocketRoute("/{other:path}", no_websocket),
            Route("/healthz", self._health),
            Route("/metrics", self._metrics),
            Mount("/static", StaticFiles(directory=PAGE)),
        ]

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """What runs as long as the server."""
        self._hub.bind()
        with closing(self._uploads):
            async with create_task_group() as tasks:
                tasks.start_soon(self._telemetry.run)
                tasks.start_soon(self._connections.cut_idle)
                tasks.start_soon(self._cut_all_at_end)
                yield
                tasks.cancel_scope.cancel()

    async def _cut_all_at_end(self) -> None:
        await self._hub.wait_closed()
        self._uploads.close()
        await sleep(_GRACE)
        self._connections.cut_all()

    async def _page(self, request: Request) -> Response:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    async def _stats(self, request: Request) -> Response:
        limits = self._uploads.limits
        upload = {"size": limits.size, "pixels": limits.pixels, "frame": self._message}
        return JSONResponse({**self._telemetry.stats(), "upload": upload}, headers=_NO_STORE)

    async def _segment(self, request: Request) -> Response:
        accept = request.headers.get("accept", "")
        return await self._uploads.segment(request, partial(self._segmented, accept=accept))

    def _segmented(self, segmented: Segmented, seconds: float, *, accept: str) -> Response:
        milliseconds = round(1000 * seconds, 3)
        if "image/png" in accept:
            content = encode_mask(segmented.mask, self._manifest.palette)
            return Response(content, media_type="image/png")
        if _RECORD in accept:
            content = self._record(segmented, milliseconds=milliseconds)
            return Response(content, media_type=_RECORD)
        presence = segmented.presence
        return JSONResponse(
            {
                "size": segmented.mask.shape,
                "milliseconds": milliseconds,
                "presence": None if presence is None else [round(float(p), 6) for p in presence],
                "segments": segments(segmented.mask, self._manifest.classes),
            }
        )

    def _camera_record(self, segmented: Segmented, seconds: float) -> bytes:
        return self._record(segmented, picture=False, milliseconds=round(1000 * seconds, 3))

    def _camera_png(self, segmented: Segmented, seconds: float) -> bytes:
        return encode_mask(segmented.mask, self._manifest.palette)

    async def _health(self, request: Request) -> Response:
        status = self._telemetry.player.status
        answer: dict[str, str] = {"status": "ok" if status.well else status.state}
        if request.state.trusted:  # the reason may name files
            answer["reason"] = status.reason
        return JSONResponse(answer, 200 if status.well else 503, headers=_NO_STORE)

    async def _metrics(self, request: Request) -> Response:
        limiter = self._one_measures
        content = await to_thread.run_sync(generate_latest, self._registry, limiter=limiter)
        return Response(content, media_type=CONTENT_TYPE_LATEST)


async def _refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    # The rest of the body is never read, so the connection cannot be used again.
    headers = {"Connection": "close"}
    return JSONResponse({"error": str(refusal)}, refusal.status, headers=headers)


def make_app(
    telemetry: Telemetry,
    connections: Connections,
    uploads: Uploads,
    *,
    message: int,
    token: str | None,
    cookie: str,
) -> ASGIApp:
    """The whole application.

    Args:
        message: most bytes of a camera's frame, which the server enforces.
        token, cookie: see `Guard`.
    """
    pages = Pages(telemetry, connections, uploads, message)
    app = Starlette(
        routes=pages.routes(), lifespan=pages.lifespan, exception_handlers={Refusal: _refused}
    )
    login_page = (PAGE / "login.html").read_text(encoding="utf-8")
    return Guard(app, token=token, cookie=cookie, login_page=login_page)
