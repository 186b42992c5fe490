"""The thread that runs the stream, starts it again, and says how it goes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

from edgeunet.errors import EdgeUNetError, SourceError

from ..frames import Segmented
from ..pipeline.stopping import Closing
from ..pipeline.stopwatch import StageReport
from ..segmenter import Segmenter
from ..sources import Frames, Source, SourceFrame, SourceInfo, redacted
from ..stream import Stream

State = Literal["starting", "playing", "waiting", "failed"]
_log = logging.getLogger(__name__)
# Seconds without a frame after which a stream is not well.
QUIET = 5.0
# Seconds between two attempts grow from the first to the last.
_RETRY_FIRST, _RETRY_LAST = 1.0, 30.0
# What an end of the process waits for; a camera that hangs longer is left behind.
_PATIENCE = 3.0


@dataclass(frozen=True)
class Status:
    """How the stream is; `reason` is empty where it plays. retrying: it will be tried again."""

    state: State
    reason: str = ""
    retrying: bool = False

    @property
    def well(self) -> bool:
        """Whether frames flow, or may still begin to."""
        return self.state in ("starting", "playing")


@dataclass(frozen=True)
class Totals:
    """Frames since the server began, over all attempts; see `StreamReport`.

    busy: seconds that each stage was at work. stages: percentiles of the attempt under way.
    """

    read: int = 0
    segmented: int = 0
    dropped: int = 0
    skipped: int = 0
    reconnects: int = 0
    busy: dict[str, float] = field(default_factory=dict)
    stages: dict[str, StageReport] = field(default_factory=dict)


class Player(Closing):
    """Plays a source through a segmenter until it is closed, and hands out what comes.

    A source that ends or fails is opened again after a while. Only a file is not: it would fail
    again in the same place.

    Args:
        open_source: opens the source, for each attempt anew.
        publish: takes each frame, in the player's thread.
        batch, temporal: see `Segmenter.stream`.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        open_source: Callable[[], Source],
        *,
        publish: Callable[[Segmented], None],
        batch: int = 1,
        temporal: float | None = None,
        quiet: float = QUIET,
        retry: float = _RETRY_FIRST,
    ) -> None:
        self._segmenter = segmenter
        self._open = open_source
        self._publish = publish
        self._batch = batch
        self._temporal = temporal
        self._quiet = quiet
        self._retry = retry
        self._lock = threading.Lock()
        self._past = Totals()
        self._stream: Stream | None = None
        self._failure: Status | None = None
        self._seen = time.monotonic()
        self._any = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgeunet-serve", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._seen = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Take no more frames; for signal handlers."""
        self._stopping.set()
        stream = self._stream
        if stream is not None:
            stream.stop()

    @property
    def ended(self) -> bool:
        """Whether the thread is through, and nothing uses the segmenter any more."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Stop, and wait a while for the thread to end."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE)

    @property
    def status(self) -> Status:
        """How the stream is now."""
        failure = self._failure  # which the player's thread may take back
        if failure is not None:
            return failure
        quiet = time.monotonic() - self._seen
        if quiet < self._quiet:
            return Status("playing" if self._any else "starting")
        what = "no frame for" if self._any else "no frame yet, after"
        return Status("waiting", f"{what} {quiet:.0f} s", retrying=True)

    def totals(self) -> Totals:
        """What was done so far."""
        with self._lock:
            return self._past if self._stream is None else _added(self._past, self._stream)

    def _run(self) -> None:
        delay = self._retry
        while not self._stopping.is_set():
            before = self._past.segmented
            failure = self._attempt()
            if self._stopping.is_set():
                return
            self._failure = failure
            if not failure.retrying:
                return
            delay = self._retry if self._past.segmented > before else min(2 * delay, _RETRY_LAST)
            self._stopping.wait(delay)

    def _attempt(self) -> Status:
        """Play until it ends; why it did."""
        from_file = False
        try:
            with self._open() as source:
                from_file = isinstance(source, Looped)
                self._play(source)
        except EdgeUNetError as error:
            reason = redacted(str(error))
            _log.warning("%s", reason)
            return Status("failed", reason, not (from_file and isinstance(error, SourceError)))
        except Exception as error:
            _log.exception("the stream failed")
            return Status("failed", f"{type(error).__name__}; the server's log says more", True)
        return Status("failed", "the source ended", True)

    def _play(self, source: Source) -> None:
        with self._segmenter.stream(source, batch=self._batch, temporal=self._temporal) as stream:
            self._stream = stream
            try:
                if self._stopping.is_set():  # it came before there was a stream to stop
                    return
                for segmented in stream.results():
                    if self._failure is not None:
                        with self._lock:
                            self._past = replace(self._past, reconnects=self._past.reconnects + 1)
                    self._seen, self._any, self._failure = time.monotonic(), True, None
                    self._publish(segmented)
            finally:
                with self._lock:
                    self._past, self._stream = _added(self._past, stream), None


def _added(past: Totals, stream: Stream) -> Totals:
    report = stream.report()
    busy = {name: past.busy.get(name, 0.0) + stage.busy for name, stage in report.stages.items()}
    return Totals(
        read=past.read + report.read,
        segmented=past.segmented + report.segmented,
        dropped=past.dropped + report.dropped,
        skipped=past.skipped + report.skipped,
        reconnects=past.reconnects + report.reconnects,
        busy=busy,
        stages=report.stages,
    )


# Frames a second of images, which have no rate of their own.
_IMAGE_RATE = Fraction(1)


def open_playing(source: str) -> Source:
    """A live source as it is; anything else in real time and in a loop.

    Raises:
        See `Frames.open`.
    """
    opened = Frames.open(source).read()
    return opened if opened.info.live else Looped(source, opened)


class Looped(Source):
    """A source that has an end, over and over, at its own rate; images come one a second.

    It counts as live: where the net is slower than the film, frames are dropped, as of a camera.
    """

    def __init__(self, source: str, opened: Source) -> None:
        super().__init__()
        self._source = source
        self._opened = opened
        self._period = 1 / float(opened.info.rate or _IMAGE_RATE)
        self.info = SourceInfo(0, opened.info.rate, live=True)

    def _read(self) -> Generator[SourceFrame, None, None]:
        index, due = 0, time.monotonic()
        while True:
            first = index
            for frame in self._opened:
                # A film that could not keep up does not hurry afterwards.
                due = max(due, time.monotonic() - self._period)
                if self._stopped.wait(max(0.0, due - time.monotonic())):
                    return
                yield replace(frame, index=index, time=index * self._period)
                index += 1
                due += self._period
            self.skipped += self._opened.skipped
            self._opened.close()
            if index == first:
                raise SourceError(f"{self._source} holds no frame.")
            self._opened = Frames.open(self._source).read()

    def stop(self) -> None:
        """See `Source`."""
        super().stop()
        self._opened.stop()

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._opened.close()
