"""The routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from ..segmenter import Segmenter
from ..sinks.jsonlines import segments
from .guard import Guard
from .hub import VIEWERS, Hub
from .metrics import make_registry
from .picture_stream import BOUNDARY, PictureStream, jpeg_part
from .pictures import IDLE_RECORD, overlaid, png, record
from .player import Player
from .telemetry import About, Board, Telemetry
from .uploads import Answer, Limits, Refusal, Uploads

PAGE = Path(__file__).parent / "page"
_RECORD = "application/octet-stream"


@dataclass(frozen=True)
class Access:
    """Who may ask; see `Guard`."""

    token: str | None = None
    cookie: str = "edgeunet"


@dataclass(frozen=True)
class Bounds:
    """What the server takes on. stall: seconds that a viewer may read nothing."""

    viewers: int = VIEWERS
    stall: float = 10.0
    uploads: Limits = field(default_factory=Limits)


class Pages:
    """What the routes answer with."""

    def __init__(
        self,
        segmenter: Segmenter,
        telemetry: Telemetry,
        hub: Hub,
        *,
        bounds: Bounds,
    ) -> None:
        self._segmenter = segmenter
        self._telemetry = telemetry
        self._hub = hub
        # An image sent in has no rate to hold: it gets the deepest net, and does not steer.
        deepest = segmenter.backend.deepest
        self._uploads = Uploads(Segmenter(deepest.bundle, deepest), bounds.uploads)
        manifest = segmenter.manifest
        self._record = partial(record, classes=len(manifest.classes))
        stream = partial(PictureStream, hub, stall=bounds.stall)
        self._records = stream(
            self._record, media_type=_RECORD, wrap=lambda content: content, idle=IDLE_RECORD
        )
        self._jpegs = stream(
            partial(overlaid, palette=manifest.palette),
            media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}",
            wrap=jpeg_part,
            idle=None,
        )
        self._registry = make_registry(telemetry, hub, self._uploads, segmenter.backend)

    def routes(self) -> list[Route | Mount]:
        """All of them."""
        return [
            Route("/", self._page),
            Route("/stats", self._stats),
            Route("/stream", self._records, methods=["GET"]),
            Route("/stream.mjpg", self._jpegs, methods=["GET"]),
            Route("/segment", self._segment, methods=["POST"]),
            Route("/healthz", self._health),
            Route("/metrics", self._metrics),
            Mount("/static", StaticFiles(directory=PAGE)),
        ]

    @asynccontextmanager
    async def running(self, app: Starlette) -> AsyncIterator[None]:
        """While the server runs: the hub belongs to its loop, and samples are taken."""
        self._hub.bind()
        sampling = asyncio.create_task(self._telemetry.run())
        try:
            yield
        finally:
            sampling.cancel()
            with suppress(asyncio.CancelledError):
                await sampling
            await self._hub.end()
            await self._uploads.close()

    async def _page(self, request: Request) -> Response:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    async def _stats(self, request: Request) -> Response:
        limits = self._uploads.limits
        stats = self._telemetry.stats(self._segmenter.backend)
        stats["upload"] = {"size": limits.size, "pixels": limits.pixels}
        return JSONResponse(stats, headers={"Cache-Control": "no-store"})

    async def _segment(self, request: Request) -> Response:
        try:
            answer = await self._uploads.segment(request)
        except Refusal as refusal:
            # What is left of the body is not read: the connection cannot go on.
            headers = {"Connection": "close"}
            return JSONResponse({"error": str(refusal)}, refusal.status, headers=headers)
        return await asyncio.to_thread(self._answered, answer, request.headers.get("accept", ""))

    def _answered(self, answer: Answer, accept: str) -> Response:
        segmented, milliseconds = answer.segmented, round(1000 * answer.seconds, 3)
        if "image/png" in accept:
            return Response(png(segmented.mask), media_type="image/png")
        if _RECORD in accept:
            content = self._record(segmented, milliseconds=milliseconds)
            return Response(content, media_type=_RECORD)
        presence = segmented.presence
        return JSONResponse(
            {
                "size": segmented.mask.shape,
                "milliseconds": milliseconds,
                "presence": None if presence is None else [round(float(p), 6) for p in presence],
                "segments": segments(segmented.mask, self._segmenter.manifest.classes),
            }
        )

    async def _health(self, request: Request) -> Response:
        status = self._telemetry.status
        answer: dict[str, str] = {"status": "ok" if status.well else status.state}
        if request.state.trusted:  # a reason may name files
            answer["reason"] = status.reason
        headers = {"Cache-Control": "no-store"}
        return JSONResponse(answer, 200 if status.well else 503, headers=headers)

    async def _metrics(self, request: Request) -> Response:
        content = await asyncio.to_thread(generate_latest, self._registry)
        return Response(content, media_type=CONTENT_TYPE_LATEST)


def make_app(
    segmenter: Segmenter,
    player: Player,
    hub: Hub,
    *,
    source: str,
    live: bool,
    access: Access,
    bounds: Bounds,
    board: Board,
) -> ASGIApp:
    """The whole application.

    Args:
        source: what the source is called, without its secrets. live: whether it is a camera.
    """
    telemetry = Telemetry(About(segmenter.manifest, source, live), player, hub, board)
    pages = Pages(segmenter, telemetry, hub, bounds=bounds)
    inner = Starlette(routes=pages.routes(), lifespan=pages.running)
    return Guard(
        inner,
        token=access.token,
        cookie=access.cookie,
        login_page=(PAGE / "login.html").read_text(encoding="utf-8"),
    )
