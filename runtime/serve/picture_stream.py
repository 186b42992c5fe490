"""Responses that do not end: pictures to a viewer for as long as it reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from .hub import Encode, Hub, HubClosed, HubFull

T = TypeVar("T")
# Seconds after which a viewer is told that the stream is alive; one that is gone shows then.
_IDLE = 5.0
BOUNDARY = "edgeunet-frame"

ABORT = "edgeunet.abort"
"""In a request's scope: cuts its connection, what waits to be sent included; to be awaited."""


class PictureStream:
    """An ASGI response: the newest picture, then the next that is newer, and so on.

    A viewer that reads slowly skips pictures: the next is chosen when the last one has left. One
    that reads nothing for `stall` seconds is cut off.

    Args:
        wrap: makes an item of the response from a picture. idle: the item sent where there is
            nothing new, None to send the last one again.
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
    ) -> None:
        self._hub = hub
        self._encode = encode
        self._media_type = media_type
        self._wrap = wrap
        self._idle = idle
        self._stall = stall

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the viewer is gone or the server ends."""
        if scope["method"] == "HEAD":
            await self._start(send)
            await self._send_item(send, b"", more=False)
            return
        try:
            with self._hub.viewer():
                await self._serve(scope, receive, send)
        except HubFull:
            message = "as many viewers as this server takes are watching; close one, or try later."
            full = JSONResponse({"error": message}, 503, headers={"Retry-After": "10"})
            await full(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send_all(send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except asyncio.TimeoutError:  # nothing was read for too long
            await scope[ABORT]()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send_all(self, send: Send) -> None:
        await self._start(send)
        number, item = 0, b""
        with suppress(HubClosed):
            while True:
                # Nothing, but only when there is room: what is newest is asked for after that.
                await self._send_item(send, b"")
                newest = self._hub.newest(self._encode, after=number)
                try:
                    picture = await _within(newest, _IDLE)
                except asyncio.TimeoutError:
                    await self._send_item(send, item if self._idle is None else self._idle)
                else:
                    number, item = picture.number, self._wrap(picture.content)
                    await self._send_item(send, item)
        await self._send_item(send, b"", more=False)

    async def _start(self, send: Send) -> None:
        headers = [(b"content-type", self._media_type.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _send_item(self, send: Send, body: bytes, *, more: bool = True) -> None:
        event = {"type": "http.response.body", "body": body, "more_body": more}
        await _within(send(event), self._stall)


def jpeg_part(content: bytes) -> bytes:
    """A JPEG as a part of `multipart/x-mixed-replace`."""
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content + b"\r\n"


async def _within(coroutine: Awaitable[T], seconds: float) -> T:
    """Its result; TimeoutError where it takes longer.

    `asyncio.wait_for` does not do: up to Python 3.11 it forgets that it was cancelled where the
    result comes at the same moment, and a viewer that left would be served for ever.
    """
    task = asyncio.ensure_future(coroutine)
    task.add_done_callback(
        lambda task: task.cancelled() or task.exception()
    )  # not left unlooked at
    try:
        if not (await asyncio.wait({task}, timeout=seconds))[0]:
            raise asyncio.TimeoutError
    finally:
        task.cancel()
    return task.result()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
