"""Hands the newest frame from the player's thread to all viewers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from anyio import Lock, current_time, sleep, to_thread

from ..frames import Segmented
from ..pipeline.stopwatch import StageReport, Stopwatch

VIEWERS = 64
"""Most viewers at once. Each takes a connection and memory for about two pictures."""
# Most pictures per second. More would not look smoother, and take processor time from the net.
_RATE = 30.0

Encode = Callable[[Segmented], bytes]


class HubClosed(Exception):  # noqa: N818  # not an error
    """No more pictures will come."""


class HubFull(Exception):  # noqa: N818  # a viewer gets this as an answer
    """The hub has as many viewers as it may."""


@dataclass(frozen=True)
class Picture:
    """An encoded frame. number: its place among all frames since the server started."""

    number: int
    content: bytes


class Hub:
    """Holds the newest frame, and encodes it once for all viewers, or never if there are none.

    The player's thread calls `publish`, any thread may call `close`. The rest belongs to the event
    loop.
    """

    def __init__(self, *, viewers: int = VIEWERS) -> None:
        self.viewers = 0
        self._limit = viewers
        self._newest: tuple[int, Segmented | None] = (0, None)
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._next_encoding = 0.0
        self._pictures: dict[Encode, Picture] = {}
        self._lock = Lock()  # one picture is encoded at a time
        self._stopwatch = Stopwatch()

    @property
    def frame(self) -> Segmented | None:
        """The newest frame, None before the first."""
        return self._newest[1]

    @property
    def encoding(self) -> StageReport:
        """How long encoding takes."""
        return self._stopwatch.report()

    def bind(self) -> None:
        """Belong to the running event loop."""
        self._loop = asyncio.get_running_loop()

    def publish(self, segmented: Segmented) -> None:
        """Make this the newest frame."""
        self._newest = (self._newest[0] + 1, segmented)
        self._notify()

    def close(self) -> None:
        """End all waiting; safe in signal handlers."""
        self._closed = True
        self._notify()

    async def wait_closed(self) -> None:
        """Wait until `close` is called."""
        while not self._closed:
            await self._news.wait()

    @contextmanager
    def viewer(self) -> Iterator[None]:
        """Count a viewer while it watches.

        Raises:
            HubFull: there are as many viewers as allowed.
        """
        if self.viewers >= self._limit:
            raise HubFull
        self.viewers += 1
        try:
            yield
        finally:
            self.viewers -= 1

    async def newest(self, encode: Encode, *, after: int) -> Picture:
        """The newest picture, once there is one with a number above `after`.

        Raises:
            HubClosed: the server ends.
        """
        while self._newest[0] <= after and not self._closed:
            await self._news.wait()
        wanted = self._newest[0]
        async with self._lock:
            picture = self._pictures.get(encode)
            if not self._closed and (picture is None or picture.number < wanted):
                await sleep(max(0.0, self._next_encoding - current_time()))
                picture = self._pictures[encode] = await self._encoded(encode)
        if self._closed or picture is None:
            raise HubClosed
        return picture

    async def _encoded(self, encode: Encode) -> Picture:
        """Encode the newest frame, to the end even if the viewer that asked leaves meanwhile."""
        number, segmented = self._newest
        assert segmented is not None

        def timed() -> bytes:
            with self._stopwatch.lap():
                return encode(segmented)

        self._next_encoding = current_time() + 1 / _RATE
        return Picture(number, await to_thread.run_sync(timed))

    def _notify(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and with it everything that waited
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
