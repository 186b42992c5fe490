"""Hands the newest frames from the player's thread to all viewers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from anyio import Lock, current_time, sleep, to_thread

from ..frames import Segmented
from ..pipeline.stopwatch import StageReport, Stopwatch

VIEWERS = 64
"""Most viewers at once. Each takes a connection and memory for about two pictures."""


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded. rate: most pictures of a source per second.

    More than 30 would not look smoother, and take processor time from the net.
    """

    encode: Callable[[Segmented], bytes]
    rate: float = 30.0


class HubClosed(Exception):  # noqa: N818  # not an error
    """No more pictures will come."""


class HubFull(Exception):  # noqa: N818  # a viewer gets this as an answer
    """There are as many viewers as may be."""


@dataclass(frozen=True)
class Picture:
    """An encoded frame. number: its place among all frames of its source."""

    number: int
    content: bytes


@dataclass(eq=False)
class _Shelf:
    """The newest picture of one encoding. lock: one is encoded at a time. due: the next, when."""

    lock: Lock = field(default_factory=Lock)
    picture: Picture | None = None
    due: float = 0.0


class Hub:
    """Holds the newest frame of one source, and encodes it once for all, or never without viewers.

    Belongs to `Hubs`. viewers: those who watch.
    """

    def __init__(self) -> None:
        self._newest: tuple[int, Segmented | None] = (0, None)
        self.viewers = 0
        self.closed = False
        self.waiting: set[asyncio.Event] = set()
        self._shelves: dict[Encoding, _Shelf] = {}
        self._stopwatch = Stopwatch()

    @property
    def number(self) -> int:
        """Number of frames that there were."""
        return self._newest[0]

    @property
    def frame(self) -> Segmented | None:
        """The newest frame, None before the first."""
        return self._newest[1]

    @property
    def encoding(self) -> StageReport:
        """How long encoding takes."""
        return self._stopwatch.report()

    async def newest(self, encoding: Encoding) -> Picture:
        """The newest picture; there must be a frame.

        Raises:
            HubClosed: the server ends.
        """
        wanted, shelf = self.number, self._shelves.setdefault(encoding, _Shelf())
        async with shelf.lock:
            if not self.closed and (shelf.picture is None or shelf.picture.number < wanted):
                await sleep(max(0.0, shelf.due - current_time()))
                shelf.picture = await self._encoded(encoding, shelf)
        if self.closed or shelf.picture is None:
            raise HubClosed
        return shelf.picture

    async def _encoded(self, encoding: Encoding, shelf: _Shelf) -> Picture:
        """Encode the newest frame, to the end even if the viewer that asked leaves meanwhile."""
        number, segmented = self._newest
        assert segmented is not None

        def timed() -> bytes:
            with self._stopwatch.lap():
                return encoding.encode(segmented)

        shelf.due = current_time() + 1 / encoding.rate
        return Picture(number, await to_thread.run_sync(timed))

    def add(self, segmented: Segmented) -> None:
        """Make this the newest frame."""
        self._newest = (self.number + 1, segmented)

    def wake(self) -> None:
        """Wake all who wait for news."""
        for event in self.waiting:
            event.set()


class Hubs(Mapping[str, Hub]):
    """The hubs of all sources, by name.

    The player's thread calls `publish`, any thread may call `close`. The rest belongs to the event
    loop.

    Args:
        viewers: most at once, of all sources together.
    """

    def __init__(self, names: Iterable[str], *, viewers: int = VIEWERS) -> None:
        self._hubs = {name: Hub() for name in names}
        self.viewers = 0
        self._limit = viewers
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def __getitem__(self, name: str) -> Hub:
        return self._hubs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._hubs)

    def __len__(self) -> int:
        return len(self._hubs)

    def bind(self) -> None:
        """Belong to the running event loop."""
        self._loop = asyncio.get_running_loop()

    def publish(self, segmented: Segmented) -> None:
        """Make this the newest frame of its source."""
        hub = self._hubs[segmented.source]
        hub.add(segmented)
        self._call(hub.wake)

    def close(self) -> None:
        """End all waiting; safe in signal handlers."""
        self._closed = True
        for hub in self.values():
            hub.closed = True
            self._call(hub.wake)

    async def wait_closed(self) -> None:
        """Wait until `close` is called."""
        with suppress(HubClosed):
            while True:
                await self.news({name: hub.number for name, hub in self.items()})

    @contextmanager
    def viewer(self, names: Iterable[str] = ()) -> Iterator[None]:
        """Count a viewer while it watches some sources, or its own camera.

        Raises:
            HubFull: there are as many viewers as allowed.
        """
        if self.viewers >= self._limit:
            raise HubFull
        watched = [self._hubs[name] for name in names]
        self.viewers += 1
        for hub in watched:
            hub.viewers += 1
        try:
            yield
        finally:
            self.viewers -= 1
            for hub in watched:
                hub.viewers -= 1

    async def news(self, seen: Mapping[str, int]) -> str:
        """Wait for a frame with a number above that of its source in `seen`.

        Returns:
            The first source in `seen` that has one.

        Raises:
            HubClosed: the server ends.
        """
        event = asyncio.Event()
        watched = [self._hubs[name] for name in seen]
        for hub in watched:
            hub.waiting.add(event)
        try:
            while not self._closed:
                for name, number in seen.items():
                    if self._hubs[name].number > number:
                        return name
                await event.wait()
                event.clear()
            raise HubClosed
        finally:
            for hub in watched:
                hub.waiting.discard(event)

    def _call(self, wake: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and with it everything that waited
                self._loop.call_soon_threadsafe(wake)
