"""The newest frame, from the thread that makes it to everyone who watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ..frames import Segmented
from ..pipeline.stopwatch import StageReport, Stopwatch

VIEWERS = 64
"""Viewers at most; each costs a connection and about two pictures of memory."""
# Pictures a second at most: the eye has enough, and the net wants the processor.
_RATE = 30.0

Encode = Callable[[Segmented], bytes]


class HubClosed(Exception):  # noqa: N818  # not an error
    """No picture will come any more."""


class HubFull(Exception):  # noqa: N818  # told to the one who came last
    """As many viewers as there may be."""


@dataclass(frozen=True)
class Picture:
    """An encoded frame. number: of the frames since the server began."""

    number: int
    content: bytes


@dataclass
class _Encoding:
    number: int
    picture: asyncio.Future[bytes]


class Hub:
    """Holds the newest frame, and encodes it once for all who ask; for none if none asks.

    `publish` is for the stream's thread, `close` for any; the rest belongs to the event loop.
    """

    def __init__(self, *, viewers: int = VIEWERS) -> None:
        self.viewers = 0
        self._limit = viewers
        self._latest: tuple[int, Segmented | None] = (0, None)
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._due = 0.0
        self._encodings: dict[Encode, _Encoding] = {}
        self._watch = Stopwatch()
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="edgeunet-encode")

    @property
    def latest(self) -> Segmented | None:
        """The newest frame, None before the first."""
        return self._latest[1]

    @property
    def encoding(self) -> StageReport:
        """How long encoding takes."""
        return self._watch.report()

    def bind(self) -> None:
        """Belong to the running event loop."""
        self._loop = asyncio.get_running_loop()

    def publish(self, segmented: Segmented) -> None:
        """Make this the newest frame."""
        self._latest = (self._latest[0] + 1, segmented)
        self._notify()

    def close(self) -> None:
        """Let all who wait end."""
        self._closed = True
        self._notify()

    async def end(self) -> None:
        """Close, and end the thread that encodes, after the picture that it is at."""
        self.close()
        await asyncio.to_thread(self._encoder.shutdown)

    @contextmanager
    def viewer(self) -> Iterator[None]:
        """Count a viewer in.

        Raises:
            HubFull: there are as many as there may be.
        """
        if self.viewers >= self._limit:
            raise HubFull
        self.viewers += 1
        try:
            yield
        finally:
            self.viewers -= 1

    async def newest(self, encode: Encode, *, after: int) -> Picture:
        """The newest picture, as soon as there is one later than number `after`.

        Raises:
            HubClosed: the server ends.
        """
        while self._latest[0] <= after and not self._closed:
            await self._news.wait()
        loop = asyncio.get_running_loop()
        if (early := self._due - loop.time()) > 0:
            await asyncio.sleep(early)
        if self._closed:
            raise HubClosed
        encoding = self._encodings.get(encode)
        number, segmented = self._latest
        # One that is under way is newer than what the viewer has, and is there first.
        if encoding is None or (encoding.picture.done() and encoding.number < number):
            assert segmented is not None
            self._due = loop.time() + 1 / _RATE
            work = loop.run_in_executor(self._encoder, self._timed, encode, segmented)
            encoding = self._encodings[encode] = _Encoding(number, work)
        # The picture is everyone's: it is made also where this viewer leaves.
        return Picture(encoding.number, await asyncio.shield(encoding.picture))

    def _timed(self, encode: Encode, segmented: Segmented) -> bytes:
        with self._watch.lap():
            return encode(segmented)

    def _notify(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and with it all who waited
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
