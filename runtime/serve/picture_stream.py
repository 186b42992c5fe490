"""Endless responses: a viewer gets pictures for as long as it reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial

from anyio import fail_after, move_on_after
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from .connections import Address
from .hub import Encode, Hub, HubClosed, HubFull

# Seconds without a new picture after which the viewer gets a sign of life. Sending it also shows
# whether the viewer is still there.
_IDLE = 5.0
BOUNDARY = "edgeunet-frame"


class PictureStream:
    """An ASGI application that sends the newest picture, then the next newer one, and so on.

    A viewer that reads slowly skips pictures: the next is chosen after the last has left. A viewer
    that reads nothing for `stall` seconds is cut off.

    Args:
        wrap: turns a picture into an item of the response.
        idle: the item sent if there is nothing new; None sends the last one again.
        cut: drops the connection of a client.
    """

    def __init__(
        self,
        hub: Hub,
        encode: Encode,
        *,
        media_type: str,
        wrap: Callable[[bytes], bytes],
        idle: bytes | None,
        stall: float,
        cut: Callable[[Address], None],
    ) -> None:
        self._hub = hub
        self._encode = encode
        self._media_type = media_type
        self._wrap = wrap
        self._idle = idle
        self._stall = stall
        self._cut = cut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the viewer leaves or the server ends."""

        async def send_in_time(message: Message) -> None:
            with move_on_after(self._stall) as timeout:
                await send(message)
            if timeout.cancelled_caught:
                self._cut(scope["client"])  # the response sees that, and ends

        respond = partial(
            StreamingResponse, headers={"Cache-Control": "no-store"}, media_type=self._media_type
        )
        if scope["method"] == "HEAD":
            await respond(())(scope, receive, send)
            return
        try:
            with self._hub.viewer():
                await respond(self._items())(scope, receive, send_in_time)
        except HubFull:
            message = "too many viewers. Close one of them or try again later."
            full = JSONResponse({"error": message}, 503, headers={"Retry-After": "10"})
            await full(scope, receive, send)

    async def _items(self) -> AsyncIterator[bytes]:
        number, item = 0, b""
        with suppress(HubClosed):
            while True:
                # Sending nothing waits for room. The newest picture is chosen after that.
                yield b""
                try:
                    with fail_after(_IDLE):
                        picture = await self._hub.newest(self._encode, after=number)
                except TimeoutError:
                    yield item if self._idle is None else self._idle
                else:
                    number, item = picture.number, self._wrap(picture.content)
                    yield item


def jpeg_part(content: bytes) -> bytes:
    """A JPEG as a part of `multipart/x-mixed-replace`."""
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content + b"\r\n"
