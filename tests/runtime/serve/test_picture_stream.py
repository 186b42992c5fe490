"""Endless responses over an ASGI connection that the test holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

from edgeunet.runtime.serve.hub import Encoding, Hubs
from edgeunet.runtime.serve.picture_stream import PictureStream
from support.serving import segmented, soon

SCOPE = {"type": "http", "method": "GET", "query_string": b"", "headers": []}


def test_slow_viewer_skips_to_the_newest_picture() -> None:
    sent: list[bytes] = []

    async def watch() -> None:
        hubs = Hubs(["a"])
        hubs.bind()
        hubs.publish(segmented(1))
        room, full = asyncio.Event(), asyncio.Event()

        async def send(event: MutableMapping[str, Any]) -> None:
            if not event.get("body") and len(sent) == 1:  # a viewer that is slow to read
                full.set()
                await room.wait()
            if event.get("body"):
                sent.append(event["body"])
                if len(sent) == 2:
                    hubs.close()

        async def receive() -> MutableMapping[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        stream = PictureStream(
            hubs, lambda request: (["a"], Encoding(lambda item: b"%d" % item.frame.index)),
            media_type="x", wrap=lambda content: content, idle=b"-",
        )  # fmt: skip
        watching = asyncio.ensure_future(stream(SCOPE, receive, send))
        await soon(full.wait())
        for index in range(2, 9):
            hubs.publish(segmented(index))
            await asyncio.sleep(0.01)
        room.set()
        await soon(watching)

    asyncio.run(watch())
    assert sent == [b"1", b"8"]


def test_viewer_may_leave_at_the_moment_a_picture_comes() -> None:
    """A lost cancellation would serve the viewer for ever."""

    async def watch(pause: float) -> None:
        hubs = Hubs(["a"])
        hubs.bind()
        left, begun = asyncio.Event(), asyncio.Event()

        async def send(event: MutableMapping[str, Any]) -> None:
            begun.set()

        async def receive() -> MutableMapping[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        stream = PictureStream(
            hubs, lambda request: (["a"], Encoding(lambda item: b"picture")),
            media_type="x", wrap=lambda content: content, idle=b"-",
        )  # fmt: skip
        watching = asyncio.ensure_future(stream(SCOPE, receive, send))
        await begun.wait()
        hubs.publish(segmented(1))
        await asyncio.sleep(pause)
        left.set()
        time.sleep(0.001)  # the picture is ready at the next step of the loop
        await soon(watching)
        assert hubs.viewers == 0

    for index in range(200):
        asyncio.run(watch(index * 2e-6))
