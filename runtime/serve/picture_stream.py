"""Endless responses: a viewer gets pictures for as long as it reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial

from anyio import fail_after
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from .hub import Encoding, HubClosed, HubFull, Hubs

# Seconds without a new picture after which the viewer gets a sign of life. Sending it also shows
# whether the viewer is still there.
_IDLE = 5.0
BOUNDARY = "edgeunet-frame"


class PictureStream:
    """An ASGI application that sends the newest picture, then the next newer one, and so on.

    Of several sources, those that have a newer picture take turns. A viewer that reads slowly skips
    pictures: the next is chosen after the last has left. `Connections` cuts one that reads nothing.

    Args:
        choose: the sources that a request asks for, and how to encode them.
        wrap: turns a picture into an item of the response.
        idle: the item sent if there is nothing new; None sends the last one again.
    """

    def __init__(
        self,
        hubs: Hubs,
        choose: Callable[[Request], tuple[Sequence[str], Encoding]],
        *,
        media_type: str,
        wrap: Callable[[bytes], bytes],
        idle: bytes | None,
    ) -> None:
        self._hubs = hubs
        self._choose = choose
        self._media_type = media_type
        self._wrap = wrap
        self._idle = idle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the viewer leaves or the server ends."""
        respond = partial(
            StreamingResponse, headers={"Cache-Control": "no-store"}, media_type=self._media_type
        )
        names, encoding = self._choose(Request(scope))
        if scope["method"] == "HEAD":
            await respond(())(scope, receive, send)
            return
        try:
            with self._hubs.viewer(names):
                await respond(self._items(names, encoding))(scope, receive, send)
        except HubFull:
            message = "too many viewers. Close one of them or try again later."
            full = JSONResponse({"error": message}, 503, headers={"Retry-After": "10"})
            await full(scope, receive, send)

    async def _items(self, names: Sequence[str], encoding: Encoding) -> AsyncIterator[bytes]:
        seen, item = dict.fromkeys(names, 0), b""
        with suppress(HubClosed):
            while True:
                # Sending nothing waits for room. The newest picture is chosen after that.
                yield b""
                try:
                    with fail_after(_IDLE):
                        name = await self._hubs.news(seen)
                        picture = await self._hubs[name].newest(encoding)
                except TimeoutError:
                    yield item if self._idle is None else self._idle
                else:
                    del seen[name]
                    seen[name] = picture.number  # the last in turn
                    item = self._wrap(picture.content)
                    yield item


def jpeg_part(content: bytes) -> bytes:
    """A JPEG as a part of `multipart/x-mixed-replace`."""
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content + b"\r\n"
