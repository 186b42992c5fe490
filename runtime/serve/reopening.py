"""Sources that a server plays: files in a loop, cameras as they are, each opened again if lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

from edgeunet.errors import EdgeUNetError, FrameError, SourceError

from ..sources import Frames, Source, SourceFrame, SourceInfo, redacted

State = Literal["starting", "playing", "waiting", "failed"]
_log = logging.getLogger(__name__)
RETRY_FIRST, RETRY_LAST = 1.0, 30.0
"""Seconds to wait before the first retry, and at most. The wait doubles with each failure."""
# Images per second: they have no rate of their own.
_IMAGE_RATE = Fraction(1)


@dataclass(frozen=True)
class Status:
    """State of a source. reason: why it does not play. retrying: whether it will try again."""

    state: State
    reason: str = ""
    retrying: bool = False

    @property
    def well(self) -> bool:
        """Whether frames flow, or have not had time to."""
        return self.state in ("starting", "playing")

    @classmethod
    def of(cls, error: Exception, *, retrying: bool = True) -> Status:
        """The status after an error, which is logged."""
        if isinstance(error, EdgeUNetError):
            reason = redacted(str(error))
            _log.warning("%s", reason)
            return cls("failed", reason, retrying)
        _log.error("the stream failed", exc_info=error)
        return cls("failed", f"{type(error).__name__}; see the server's log", retrying)


@dataclass
class Health:
    """How one source does, over all times that it is opened; only its `Reopened` changes it.

    live: whether it is a camera. rate: its frames per second, None if unknown.
    begun: whether it ever gave a frame. failure: why it gives none now, None while it does.
    since: when it began to give frames again, by `time.monotonic`.
    """

    live: bool
    rate: Fraction | None = None
    begun: bool = False
    failure: Status | None = None
    since: float = field(default_factory=time.monotonic)


class Reopened(Source):
    """A source that is opened again, after a while, whenever it ends, fails or cannot be opened.

    Only a file that never gave a frame is not, because it would fail again in the same place: this
    source then ends. It raises nothing, so that the others of a stream do not notice.

    Args:
        open_source: opens the source, once for each attempt.
        health: kept up to date.
        retry: seconds to wait before the first retry.
    """

    # A camera may hang for longer, and must not hold up those who close all sources.
    close_timeout = 1.0

    def __init__(
        self, open_source: Callable[[], Source], health: Health, *, retry: float = RETRY_FIRST
    ) -> None:
        super().__init__()
        self.info = SourceInfo(0, None, live=True)
        self._open = open_source
        self._health = health
        self._retry = retry
        self._opened: Source | None = None
        self._count = 0
        self._first_at = 0.0
        self._rejection: FrameError | None = None

    @property
    def hangs(self) -> bool:
        """Whether a thread still waits for a frame."""
        return self._reading

    def _read(self) -> Generator[SourceFrame, None, None]:
        delay = self._retry
        while True:
            before = self._count
            failure = yield from self._attempt()
            if self._stopped.is_set():
                return
            self._health.failure = failure
            if not failure.retrying:
                return
            delay = self._retry if self._count > before else min(2 * delay, RETRY_LAST)
            if self._stopped.wait(delay):
                return

    def _attempt(self) -> Generator[SourceFrame, None, Status]:
        """Open the source and read it to its end; return why it ended."""
        skipped, from_file = self.skipped, False
        try:
            with self._open() as source:
                self._opened = source
                if self._stopped.is_set():  # while it was being opened
                    return Status("failed")
                from_file = isinstance(source, Looped)
                self._health.live, self._health.rate = not from_file, source.info.rate
                reconnects = self.reconnects
                offset: float | None = None
                for frame in source:
                    now = time.monotonic()
                    self._first_at = self._first_at if self._count else now
                    offset = now - self._first_at if offset is None else offset
                    seconds = None if frame.time is None else offset + frame.time
                    yield replace(frame, index=self._count, time=seconds)
                    # Here its reader has fitted the frame to the net.
                    if self._rejection is not None:
                        rejection, self._rejection = self._rejection, None
                        source.reject(rejection)
                    else:
                        reconnects += self._note_frame()
                    self.skipped = skipped + source.skipped
                    self.reconnects = reconnects + source.reconnects
                self.skipped = skipped + source.skipped
        except Exception as error:
            if self._stopped.is_set():
                return Status("failed")
            unplayable = from_file and isinstance(error, (SourceError, FrameError))
            return Status.of(error, retrying=not unplayable or self._health.begun)
        finally:
            self._opened = None
        return Status("failed", "the source ended", retrying=True)

    def _note_frame(self) -> bool:
        """Note that the source gave a frame; returns whether it had been lost."""
        self._count += 1
        health, lost = self._health, self._health.failure is not None
        health.begun = True
        if lost:
            health.failure, health.since = None, time.monotonic()
        return lost

    def reject(self, error: FrameError) -> None:
        """Leave that to the source, when the next frame is read."""
        self._rejection = error

    def stop(self) -> None:
        """See `Source`."""
        super().stop()
        opened = self._opened
        if opened is not None:
            opened.stop()


def open_playing(frames: Frames) -> Source:
    """Open a source; a live one as it is, anything else in real time and in a loop.

    Raises:
        See `Frames.read`.
    """
    opened = frames.read(skip_damaged=True)
    return opened if opened.info.live else Looped(frames, opened)


class Looped(Source):
    """Plays a source that has an end over and over, at its own rate; images one per second.

    It counts as live: if the net is slower than the film, frames are dropped. Damaged frames are
    left out.
    """

    def __init__(self, frames: Frames, opened: Source) -> None:
        super().__init__()
        self._file = frames
        self._opened = opened
        rate = opened.info.rate or _IMAGE_RATE
        self._period = 1 / float(rate)
        self.info = SourceInfo(0, rate, live=True)

    def _read(self) -> Generator[SourceFrame, None, None]:
        index, due = 0, time.monotonic()
        while True:
            first = index
            for frame in self._opened:
                # After a delay the film goes on at its own rate. It does not catch up.
                due = max(due, time.monotonic() - self._period)
                if self._stopped.wait(max(0.0, due - time.monotonic())):
                    return
                yield replace(frame, index=index, time=index * self._period)
                index += 1
                due += self._period
            self.skipped += self._opened.skipped
            self._opened.close()
            if index == first:
                raise SourceError(f"{self._file.name} holds no frame.")
            self._opened = self._file.read(skip_damaged=True)

    def reject(self, error: FrameError) -> None:
        """See `Source`."""
        self._opened.reject(error)

    def stop(self) -> None:
        """See `Source`."""
        super().stop()
        self._opened.stop()

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._opened.close()
