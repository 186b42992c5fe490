"""The hub: one encoding for all viewers, and how they wait."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest
from anyio import create_task_group, to_thread

from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.serve.hub import Hub, HubClosed, HubFull
from support.serving import segmented, soon


def test_hub_encodes_once_for_all_viewers_and_never_without_one() -> None:
    encoded: list[int] = []

    def encode(item: Segmented) -> bytes:
        encoded.append(item.frame.index)
        return b"%d" % item.frame.index

    async def watch() -> None:
        hub = Hub()
        hub.bind()
        for index in range(5):
            hub.publish(segmented(index))
        await asyncio.sleep(0.05)
        assert encoded == []
        pictures = await soon(asyncio.gather(*(hub.newest(encode, after=0) for _ in range(9))))
        assert {picture.content for picture in pictures} == {b"4"}
        waiting = [asyncio.ensure_future(hub.newest(encode, after=5)) for _ in range(9)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        hub.publish(segmented(5))
        assert {picture.content for picture in await soon(asyncio.gather(*waiting))} == {b"5"}

    asyncio.run(watch())
    assert encoded == [4, 5]


def test_picture_is_kept_if_its_first_viewer_leaves() -> None:
    calls: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def encode(item: Segmented) -> bytes:
        calls.append(item.frame.index)
        begun.set()
        assert go_on.wait(5)
        return b"3"

    async def watch() -> None:
        hub = Hub()
        hub.bind()
        hub.publish(segmented(3))
        async with create_task_group() as first:
            first.start_soon(partial(hub.newest, encode, after=0))
            assert await to_thread.run_sync(begun.wait, 5)
            first.cancel_scope.cancel()
            go_on.set()
        assert (await soon(hub.newest(encode, after=0))).content == b"3"

    asyncio.run(watch())
    assert calls == [3]


def test_closing_ends_all_waiting() -> None:
    async def watch() -> None:
        hub = Hub()
        hub.bind()
        waiting = asyncio.ensure_future(hub.newest(lambda item: b"", after=0))
        await asyncio.sleep(0)
        hub.close()
        with pytest.raises(HubClosed):
            await soon(waiting)

    asyncio.run(watch())


def test_hub_limits_viewers() -> None:
    hub = Hub(viewers=1)
    with hub.viewer():
        assert hub.viewers == 1
        with pytest.raises(HubFull), hub.viewer():
            pass
    assert hub.viewers == 0
