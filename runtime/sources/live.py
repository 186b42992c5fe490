"""Cameras and streams: live sources, which reconnect when the connection is lost."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction

from edgeunet.errors import SourceError

from ..frames import Frame, SourceFrame, SourceInfo
from ..pipeline.stopping import Closing
from .base import Source
from .redaction import redacted


@dataclass(frozen=True)
class Backoff:
    """Seconds before each attempt: `first`, then twice as long each time, at most `longest`."""

    first: float = 0.5
    longest: float = 30.0

    def delays(self) -> Iterator[float]:
        """The endless series of delays for one outage."""
        delay = self.first
        while True:
            yield delay
            delay = min(2 * delay, self.longest)


_log = logging.getLogger(__name__)

QUIET = 10.0
"""Seconds between two warnings about damaged frames."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds to wait for an answer while connecting, and for each picture afterwards.

    FFmpeg may take twice as long to notice.
    """

    connect: float = 10.0
    read: float = 5.0


class Connection(Closing, ABC):
    """A camera that answered.

    rate: frames per second, None if the camera does not say. pixel_aspect: see `SourceFrame`.
    """

    rate: Fraction | None
    pixel_aspect: Fraction = Fraction(1)

    @abstractmethod
    def frames(self) -> Iterator[Frame | None]:
        """Yield pictures as they arrive, None for a damaged one, until the stream ends.

        Raises:
            SourceError: the stream fails, or no picture arrives within the read timeout.
        """

    def stop(self) -> None:
        """End a wait for a picture if possible; for any thread, or a signal handler."""


class LiveSource(Source):
    """Frames of a camera or stream, until `stop`.

    The constructor connects. If the stream ends or fails later, the source reconnects until it
    succeeds; one warning reports the outage, another its end. Damaged frames are left out. `time`
    is read from the clock when a frame arrives, because the times in a stream start anew with each
    connection, and MJPEG has none.

    Args:
        address: printed without its password.
        connect: connects, or raises SourceError.
    """

    def __init__(
        self,
        address: str,
        connect: Callable[[], Connection],
        *,
        backoff: Backoff = Backoff(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.name = redacted(address)
        self._connect = connect
        self._backoff = backoff
        self._clock = clock
        self._connection: Connection | None = connect()
        self._pixel_aspect = self._connection.pixel_aspect
        self.info = SourceInfo(0, self._connection.rate, live=True)
        self._last_warning = (float("-inf"), 0)  # time, and `skipped` at that time

    def _read(self) -> Generator[SourceFrame, None, None]:
        index, started = 0, 0.0
        lost: float | None = None  # when the outage began
        delays = self._backoff.delays()
        while True:
            try:
                for image in self._pictures():
                    now = self._clock()
                    if lost is not None:
                        self.reconnects += 1
                        _log.warning("%s is back after %.1f s.", self.name, now - lost)
                        lost, delays = None, self._backoff.delays()
                    started = started if index else now
                    yield SourceFrame(index, "", image, now - started, self._pixel_aspect)
                    index += 1
                fault = f"{self.name} ended."
            except SourceError as error:
                fault = str(error)
            self._free()
            if self._stopped.is_set():
                return
            if lost is None:
                lost = self._clock()
                _log.warning("%s Trying again until it is back.", fault)
            else:
                _log.debug("%s", fault)
            if self._stopped.wait(next(delays)):
                return

    def _pictures(self) -> Iterator[Frame]:
        """Undamaged pictures of one connection, until it ends or `stop`."""
        if self._connection is None:
            self._connection = self._connect()
            self._pixel_aspect = self._connection.pixel_aspect
        if self._stopped.is_set():  # while it was connecting
            return
        for image in self._connection.frames():
            if self._stopped.is_set():
                return
            if image is None:
                self._skip()
            else:
                yield image

    def _skip(self) -> None:
        self.skipped += 1
        when, before = self._last_warning
        if self._clock() - when >= QUIET:
            new = self.skipped - before
            _log.warning(
                "%s: damaged frames left out: %d, %d in all.", self.name, new, self.skipped
            )
            self._last_warning = (self._clock(), self.skipped)

    def _free(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def stop(self) -> None:
        """See `Source`."""
        super().stop()
        connection = self._connection
        if connection is not None:
            connection.stop()
