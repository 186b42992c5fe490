"""The hub: one encoding for all viewers, and how they wait."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest
from anyio import create_task_group, to_thread

from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.serve.hub import Encoding, HubClosed, HubFull, Hubs, Picture
from support.serving import segmented, soon


async def newest(hubs: Hubs, encoding: Encoding, *, after: int) -> Picture:
    """The newest picture of a, once there is one with a number above `after`."""
    await hubs.news({"a": after})
    return await hubs["a"].newest(encoding)


def test_hub_encodes_once_for_all_viewers_and_never_without_one() -> None:
    encoded: list[int] = []

    def encode(item: Segmented) -> bytes:
        encoded.append(item.frame.index)
        return b"%d" % item.frame.index

    encoding = Encoding(encode)

    async def watch() -> None:
        hubs = Hubs(["a", "b"])
        hubs.bind()
        for index in range(5):
            hubs.publish(segmented(index))
        await asyncio.sleep(0.05)
        assert encoded == []
        pictures = await soon(asyncio.gather(*(newest(hubs, encoding, after=0) for _ in range(9))))
        assert {picture.content for picture in pictures} == {b"4"}
        waiting = [asyncio.ensure_future(newest(hubs, encoding, after=5)) for _ in range(9)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        hubs.publish(segmented(5))
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

    encoding = Encoding(encode)

    async def watch() -> None:
        hubs = Hubs(["a", "b"])
        hubs.bind()
        hubs.publish(segmented(3))
        async with create_task_group() as first:
            first.start_soon(partial(newest, hubs, encoding, after=0))
            assert await to_thread.run_sync(begun.wait, 5)
            first.cancel_scope.cancel()
            go_on.set()
        assert (await soon(newest(hubs, encoding, after=0))).content == b"3"

    asyncio.run(watch())
    assert calls == [3]


def test_closing_ends_all_waiting() -> None:
    async def watch() -> None:
        hubs = Hubs(["a", "b"])
        hubs.bind()
        waiting = asyncio.ensure_future(newest(hubs, Encoding(lambda item: b""), after=0))
        await asyncio.sleep(0)
        hubs.close()
        with pytest.raises(HubClosed):
            await soon(waiting)

    asyncio.run(watch())


def test_viewers_of_all_sources_are_limited_together() -> None:
    hubs = Hubs(["a", "b"], viewers=1)
    with hubs.viewer(["a", "b"]):
        assert (hubs.viewers, hubs["a"].viewers, hubs["b"].viewers) == (1, 1, 1)
        with pytest.raises(HubFull), hubs.viewer(["b"]):
            pass
    assert (hubs.viewers, hubs["a"].viewers, hubs["b"].viewers) == (0, 0, 0)


def test_news_of_sources_that_are_not_watched_wake_nobody() -> None:
    async def watch() -> None:
        hubs = Hubs(["a", "b"])
        hubs.bind()
        waiting = asyncio.ensure_future(hubs.news({"a": 0}))
        await asyncio.sleep(0)
        hubs.publish(segmented(1, source="b"))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        assert await soon(hubs.news({"a": 0, "b": 0})) == "b"
        hubs.publish(segmented(1, source="a"))
        assert await soon(waiting) == "a"

    asyncio.run(watch())
