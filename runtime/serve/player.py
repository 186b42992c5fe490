"""Plays a source through the net in a thread, and starts again after failures.

The only module of the server that opens and reads a stream of the runtime.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import Literal

from edgeunet.data.images import Picture
from edgeunet.errors import EdgeUNetError, SourceError

from ..frames import Segmented
from ..pipeline.stopping import Closing
from ..pipeline.stopwatch import StageReport
from ..segmenter import Segmenter
from ..sources import Frames, Source, SourceFrame, SourceInfo, redacted
from ..stream import Stream

State = Literal["starting", "playing", "waiting", "failed"]
_log = logging.getLogger(__name__)
# Seconds without a frame after which the status becomes "waiting".
QUIET = 5.0
# Seconds to wait before the first retry, and at most. The wait doubles with each failure.
_RETRY_FIRST, _RETRY_LAST = 1.0, 30.0
# Seconds that closing waits for the thread. A camera may block it for longer.
_CLOSE_TIMEOUT = 3.0


@dataclass(frozen=True)
class Status:
    """State of the stream. reason: why it does not play. retrying: whether it will try again."""

    state: State
    reason: str = ""
    retrying: bool = False

    @property
    def well(self) -> bool:
        """Whether frames flow, or have not had time to."""
        return self.state in ("starting", "playing")


@dataclass(frozen=True)
class Totals:
    """Counts since the server started, over all attempts; see `StreamReport`.

    busy: seconds that each stage worked. stages: latencies in the current attempt.
    """

    read: int = 0
    segmented: int = 0
    dropped: int = 0
    skipped: int = 0
    reconnects: int = 0
    busy: dict[str, float] = field(default_factory=dict)
    stages: dict[str, StageReport] = field(default_factory=dict)


class Player(Closing):
    """Plays a source through a segmenter until it is closed.

    A source that ends or fails is opened again after a while. Only a file that never gave a frame
    is not, because it would fail again in the same place.

    Args:
        reopen: opens the source, once for each attempt.
        publish: called with each segmented frame, in the player's thread.
        batch, temporal: see `Segmenter.stream`.
        quiet: seconds without a frame after which the status becomes "waiting".
        retry: seconds to wait before the first retry.

    Raises:
        UsageError: what `Segmenter.stream` refuses.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        reopen: Callable[[], Source],
        *,
        publish: Callable[[Segmented], None],
        batch: int | None = None,
        temporal: float | None = None,
        quiet: float = QUIET,
        retry: float = _RETRY_FIRST,
    ) -> None:
        self._segmenter = segmenter
        # Single images get the deepest net: they have no rate to hold, and must not steer it.
        deepest = segmenter.backend.deepest
        self._deepest = Segmenter(deepest.bundle, deepest, reading=segmenter.reading)
        self._open_stream = partial(segmenter.stream, batch=batch, temporal=temporal)
        self._open_stream([]).close()  # refuses wrong arguments here, before the thread runs
        self._reopen = reopen
        self._publish = publish
        self._quiet = quiet
        self._retry = retry
        self._lock = threading.Lock()
        self._past = Totals()
        self._stream: Stream | None = None
        self._failure: Status | None = None
        self._last_frame_at = time.monotonic()
        self._had_frames = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgeunet-serve", daemon=True)

    def start(self) -> None:
        """Start playing."""
        self._last_frame_at = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Take no more frames; safe in signal handlers."""
        self._stopping.set()
        stream = self._stream
        if stream is not None:
            stream.stop()

    @property
    def ended(self) -> bool:
        """Whether the thread has ended, so that the segmenter may be closed."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Stop, and wait for the thread to end, for a few seconds at most."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_TIMEOUT)

    @property
    def status(self) -> Status:
        """State of the stream at this moment."""
        failure = self._failure  # the player's thread may reset it
        if failure is not None:
            return failure
        quiet = time.monotonic() - self._last_frame_at
        if quiet < self._quiet:
            return Status("playing" if self._had_frames else "starting")
        what = "no frame for" if self._had_frames else "no frame yet, after"
        return Status("waiting", f"{what} {quiet:.0f} s", retrying=True)

    @property
    def backend(self) -> str:
        """Name of the backend that runs the net now; it may change."""
        return self._segmenter.backend.name

    @property
    def depths(self) -> dict[int, int]:
        """Frames segmented by each depth, the deepest first; empty without a target rate."""
        return dict(self._segmenter.backend.frames_by_depth)

    def segment(self, image: Picture) -> Segmented:
        """Segment one image, beside the stream; from any thread."""
        return self._deepest.segment(SourceFrame(0, "", image.pixels, channels=image.channels))

    def totals(self) -> Totals:
        """Counts since the server started."""
        with self._lock:
            return self._past if self._stream is None else _added(self._past, self._stream)

    def _run(self) -> None:
        delay = self._retry
        while not self._stopping.is_set():
            before = self._past.segmented
            failure = self._play_once()
            if self._stopping.is_set():
                return
            self._failure = failure
            if not failure.retrying:
                return
            delay = self._retry if self._past.segmented > before else min(2 * delay, _RETRY_LAST)
            self._stopping.wait(delay)

    def _play_once(self) -> Status:
        """Open the source and play it to its end; return why it ended."""
        from_file = False
        try:
            with self._reopen() as source:
                from_file = isinstance(source, Looped)
                self._play(source)
        except EdgeUNetError as error:
            reason = redacted(str(error))
            _log.warning("%s", reason)
            unplayable = from_file and isinstance(error, SourceError) and not self._had_frames
            return Status("failed", reason, retrying=not unplayable)
        except Exception as error:
            _log.exception("the stream failed")
            return Status("failed", f"{type(error).__name__}; see the server's log", True)
        return Status("failed", "the source ended", True)

    def _play(self, source: Source) -> None:
        with self._open_stream(source) as stream:
            self._stream = stream
            try:
                if self._stopping.is_set():  # `stop` came before there was a stream
                    return
                for segmented in stream.results():
                    if self._failure is not None:
                        with self._lock:
                            self._past = replace(self._past, reconnects=self._past.reconnects + 1)
                    self._last_frame_at, self._had_frames = time.monotonic(), True
                    self._failure = None
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


# Images per second: they have no rate of their own.
_IMAGE_RATE = Fraction(1)


def open_playing(source: str) -> Source:
    """Open a source; a live one as it is, anything else in real time and in a loop.

    Raises:
        See `Frames.open`.
    """
    frames = Frames.open(source)
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
        self._period = 1 / float(opened.info.rate or _IMAGE_RATE)
        self.info = SourceInfo(0, opened.info.rate, live=True)

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

    def stop(self) -> None:
        """See `Source`."""
        super().stop()
        self._opened.stop()

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._opened.close()
