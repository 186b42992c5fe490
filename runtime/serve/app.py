"""The web application: its routes, and what runs beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, create_task_group, sleep, to_thread
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from edgeunet import __version__
from edgeunet.errors import printable

from ..frames import Segmented
from ..sinks import encode_mask
from ..sinks.jsonlines import segments
from .camera import Cameras, no_websocket
from .connections import CONNECTIONS, STALL, Connections
from .guard import Guard
from .hub import VIEWERS, Encoding
from .metrics import make_registry
from .openapi import JSON, Answer, Endpoint, Parameter, describe, errors
from .picture_stream import BOUNDARY, PictureStream, jpeg_part
from .pictures import IDLE_RECORD, LONGEST_OF_MANY, overlaid, record
from .record_route import RecordRoute
from .schemas import HEALTH, SEGMENTED, STATS, TEXT
from .telemetry import Telemetry
from .uploads import Limits, Refusal, Uploads

PAGE = Path(__file__).parent / "page"
_RECORD = "application/octet-stream"
_NO_STORE = {"Cache-Control": "no-store"}
_RECORDS = (
    "A record: three lengths (32 bit, big-endian), then JSON, a JPEG and the class ids, a byte a "
    "pixel, deflated. Three zeros are a sign of life."
)
_UPLOAD_ERRORS = errors(
    {
        400: "The connection closed before the image had arrived.",
        408: "The image took too long to arrive.",
        413: "Too many bytes or pixels.",
        415: "No image of a known format, or a form.",
        422: "An image that is damaged, slow to decode, or that the net does not take.",
        429: "Too many images from this address wait, or too many wrong tokens.",
        500: "The net failed.",
        503: "Too many images wait, this one took too long, or the server ends.",
    }
)
_ABOUT = """Segments the stream of a source, images, and frames of browsers' cameras.

**WebSocket `/camera`.** Send an image file (JPEG, PNG, WebP …) of up to {frame} bytes as one
binary message. The answer is a binary message: a record as of `/segment`, without the JPEG, or with
`?answer=png` the mask as a PNG; or a text, `{{"error": …, "status": …}}`, after which the next
frame may come. Send the next frame when the answer has come. A client that does not wait, or sends
no frame for {patience:.0f} s, is closed with code 1008, one for which there is no room with 1013,
and all with 1001 when the server ends. The token comes as in other requests. Each frame goes
through the deepest net by itself: it is not smoothed over time, and holds no rate.
"""
# Pictures of each source per second if they are shown beside others.
_RATE_OF_MANY = 10.0
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
    """What the routes answer with.

    Args:
        bounds: limits of the server, which others enforce.
        cookie: that of `Guard`; None if the server needs no token.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        connections: Connections,
        uploads: Uploads,
        bounds: Bounds,
        cookie: str | None,
    ) -> None:
        self._telemetry = telemetry
        self._hubs = telemetry.hubs
        self._connections = connections
        self._manifest = telemetry.about.manifest
        self._uploads = uploads
        self._bounds = bounds
        self._cookie = cookie
        self._record = partial(record, classes=len(self._manifest.classes))
        self._alone = Encoding(self._record)
        self._of_many = Encoding(
            partial(self._record, longest=LONGEST_OF_MANY, alone=True), rate=_RATE_OF_MANY
        )
        self._overlaid = Encoding(partial(overlaid, palette=self._manifest.palette))
        self._records = PictureStream(
            self._hubs,
            self._choose_records,
            media_type=_RECORD,
            wrap=lambda content: content,
            idle=IDLE_RECORD,
        )
        self._jpegs = PictureStream(
            self._hubs,
            self._choose_jpegs,
            media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}",
            wrap=jpeg_part,
            idle=None,
        )
        self._cameras = Cameras(
            self._hubs, uploads, {"record": self._camera_record, "png": self._camera_png}
        )
        self._registry = make_registry(telemetry, uploads)
        # One at a time: it counts the pixels of a frame, and other answers need threads too.
        self._one_measures = CapacityLimiter(1)
        self._record_route = RecordRoute(telemetry, self._chosen)

    def endpoints(self) -> list[Endpoint]:
        """All routes but that of the WebSocket, with what /openapi.json says of them."""
        full = errors({503: "Too many viewers."})
        unknown = errors({404: "No source has this name."})
        sources = Parameter("source", "Name of a source; the first if it is missing.", TEXT)
        html = Answer("The page.", {"text/html": TEXT})
        well = Answer("Frames of a source flow, or have not had time to.", {JSON: HEALTH})
        return [
            Endpoint(
                "/",
                self._page,
                "The page.",
                {200: html, 401: Answer("A form for the token.", {"text/html": TEXT})},
            ),
            Endpoint("/stats", self._stats, "Numbers.", {200: Answer("Numbers.", {JSON: STATS})}),
            Endpoint(
                "/stream",
                self._records,
                "The newest frames and their masks, as records, without end.",
                {200: Answer(_RECORDS, {_RECORD: {}}), **full, **unknown},
                parameters=(sources,),
            ),
            Endpoint(
                "/stream.mjpg",
                self._jpegs,
                "The newest frames with the classes in colour, without end.",
                {
                    200: Answer("JPEGs.", {"multipart/x-mixed-replace": {}}),
                    **full,
                    **unknown,
                    **errors({400: "More than one source."}),
                },
                parameters=(sources,),
            ),
            Endpoint(
                "/segment",
                self._segment,
                "Segments an image file. Accept chooses the answer: JSON, the mask as a PNG, or "
                "a record.",
                {
                    200: Answer(
                        f"The mask. {_RECORDS}", {JSON: SEGMENTED, "image/png": {}, _RECORD: {}}
                    ),
                    **_UPLOAD_ERRORS,
                },
                method="POST",
                body=("image/*", _RECORD),
            ),
            self._record_route.endpoint(sources),
            Endpoint(
                "/healthz",
                self._health,
                "Whether frames flow.",
                {200: well, 503: Answer("No frames of any source.", {JSON: HEALTH}), **unknown},
                parameters=(sources,),
                free=True,
            ),
            Endpoint(
                "/metrics",
                self._metrics,
                "Numbers for Prometheus.",
                {200: Answer("Prometheus's text format.", {"text/plain": TEXT})},
            ),
            Endpoint(
                "/openapi.json",
                self._openapi,
                "This description.",
                {200: Answer("OpenAPI 3.1.", {JSON: {"type": "object"}})},
            ),
            Endpoint(
                "/static/{file}",
                None,
                "A file of the page.",
                {
                    200: Answer("The file.", {"text/*": {}, "image/*": {}}),
                    404: Answer("There is no such file.", {"text/plain": TEXT}),
                },
                parameters=(Parameter("file", "Its name.", TEXT, "path"),),
                free=True,
            ),
        ]

    def routes(self) -> list[BaseRoute]:
        """All routes."""
        return [
            *(route for endpoint in self.endpoints() for route in endpoint.routes()),
            WebSocketRoute("/camera", self._cameras.serve),
            WebSocketRoute("/{other:path}", no_websocket),
            Mount("/static", StaticFiles(directory=PAGE)),
        ]

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """What runs as long as the server."""
        self._hubs.bind()
        with closing(self._uploads):
            async with create_task_group() as tasks:
                tasks.start_soon(self._telemetry.run)
                tasks.start_soon(self._connections.cut_idle)
                tasks.start_soon(self._cut_all_at_end)
                yield
                tasks.cancel_scope.cancel()

    async def _cut_all_at_end(self) -> None:
        await self._hubs.wait_closed()
        self._uploads.close()
        await sleep(_GRACE)
        self._connections.cut_all()

    def _chosen(self, request: Request) -> list[str]:
        """The sources that a request names, or the first."""
        names = list(dict.fromkeys(request.query_params.getlist("source"))) or [
            next(iter(self._hubs))
        ]
        for name in names:
            if name not in self._hubs:
                known = ", ".join(self._hubs)
                raise Refusal(
                    404, f"no source is called {printable(name[:80])}; there are: {known}."
                )
        return names

    def _choose_records(self, request: Request) -> tuple[list[str], Encoding]:
        names = self._chosen(request)
        return names, self._alone if len(names) == 1 else self._of_many

    def _choose_jpegs(self, request: Request) -> tuple[list[str], Encoding]:
        names = self._chosen(request)
        if len(names) > 1:
            raise Refusal(
                400, f"motion JPEG shows one source; got {len(names)}. Pass one ?source=."
            )
        return names, self._overlaid

    async def _page(self, request: Request) -> Response:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    async def _stats(self, request: Request) -> Response:
        limits = self._uploads.limits
        upload = {"size": limits.size, "pixels": limits.pixels, "frame": self._bounds.message}
        return JSONResponse({**self._telemetry.stats(), "upload": upload}, headers=_NO_STORE)

    async def _openapi(self, request: Request) -> Response:
        limits = self._uploads.limits
        document = describe(
            self.endpoints(),
            title=f"edgeunet serve: {self._manifest.model}",
            version=__version__,
            text=_ABOUT.format(frame=self._bounds.message, patience=limits.seconds),
            cookie=self._cookie,
            limits={
                "viewers": self._bounds.viewers,
                "connections": self._connections.most,
                "upload bytes": limits.size,
                "upload pixels": limits.pixels,
                "upload seconds": limits.seconds,
                "uploads waiting": limits.waiting,
                "seconds until the answer": limits.work,
                "camera frame bytes": self._bounds.message,
            },
        )
        return JSONResponse(document, headers=_NO_STORE)

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
        asked = list(self._hubs)
        if "source" in request.query_params and request.state.trusted:
            asked = self._chosen(request)
        statuses = {name: self._telemetry.player.status(name) for name in asked}
        unwell = {name: status for name, status in statuses.items() if not status.well}
        lost = len(unwell) == len(statuses)  # a restart would hold up those that are well
        state = "ok" if not unwell else next(iter(unwell.values())).state if lost else "degraded"
        answer: dict[str, Any] = {"status": state}
        if request.state.trusted:  # names and reasons may tell of files
            answer["unwell"] = {name: status.reason for name, status in unwell.items()}
        return JSONResponse(answer, 503 if lost else 200, headers=_NO_STORE)

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
    bounds: Bounds,
    token: str | None,
    cookie: str,
) -> ASGIApp:
    """The whole application.

    Args:
        bounds: see `Pages`.
        token, cookie: see `Guard`.
    """
    pages = Pages(telemetry, connections, uploads, bounds, None if token is None else cookie)
    app = Starlette(
        routes=pages.routes(), lifespan=pages.lifespan, exception_handlers={Refusal: _refused}
    )
    login_page = (PAGE / "login.html").read_text(encoding="utf-8")
    return Guard(app, token=token, cookie=cookie, login_page=login_page)
