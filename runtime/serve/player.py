"""Plays sources through one net in a thread, and starts again after failures of the net.

The only module of the server that reads a stream of the runtime.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from edgeunet.data.images import Picture

from ..frames import Segmented
from ..pipeline.stopping import Closing
from ..pipeline.stopwatch import StageReport
from ..segmenter import Segmenter
from ..sources import Source, SourceFrame
from ..stream import SourceReport, Stream
from .reopening import RETRY_FIRST, RETRY_LAST, Health, Reopened, Status

# Seconds without a frame after which the status becomes "waiting".
QUIET = 5.0
# Seconds that closing waits for the thread. A camera may block it for longer.
_CLOSE_TIMEOUT = 3.0


@dataclass(frozen=True)
class Counts:
    """Of one source since the server started; see `SourceReport`. Latency: of late."""

    read: int = 0
    segmented: int = 0
    dropped: int = 0
    skipped: int = 0
    reconnects: int = 0
    latency_p50: float = 0.0
    latency_p99: float = 0.0


@dataclass(frozen=True)
class Totals:
    """Counts by source since the server started.

    busy: seconds that each stage worked. stages: latencies since the net last failed.
    """

    sources: Mapping[str, Counts]
    busy: dict[str, float] = field(default_factory=dict)
    stages: dict[str, StageReport] = field(default_factory=dict)

    @property
    def segmented(self) -> int:
        """Frames of all sources."""
        return sum(each.segmented for each in self.sources.values())


@dataclass
class _Played:
    """A source. health: what its reader knows. delivered: whether a frame came out of the net."""

    opening: Callable[[], Source]
    health: Health
    delivered: bool = False
    last_frame_at: float = 0.0


class Player(Closing):
    """Plays sources through a segmenter until it is closed, all through the same net.

    Each source is a `Reopened`. If the net fails, all are opened again after a while.

    Args:
        sources: opens each, by name, once for each attempt; see `open_playing`.
        live: names of those that are known to be cameras before they are open.
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
        sources: Mapping[str, Callable[[], Source]],
        *,
        publish: Callable[[Segmented], None],
        live: frozenset[str] = frozenset(),
        batch: int | None = None,
        temporal: float | None = None,
        quiet: float = QUIET,
        retry: float = RETRY_FIRST,
    ) -> None:
        self._segmenter = segmenter
        # Single images get the deepest net: they have no rate to hold, and must not steer it.
        deepest = segmenter.backend.deepest
        self._deepest = Segmenter(deepest.bundle, deepest, reading=segmenter.reading)
        self._open_stream = partial(segmenter.stream, batch=batch, temporal=temporal)
        self._open_stream([]).close()  # refuses wrong arguments here, before the thread runs
        self._sources = {
            name: _Played(opening, Health(name in live)) for name, opening in sources.items()
        }
        self._publish = publish
        self._quiet = quiet
        self._retry = retry
        self._lock = threading.Lock()
        self._past = Totals({name: Counts() for name in sources})
        self._stream: Stream | None = None
        self._opened: list[Reopened] = []
        self._failure: Status | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgeunet-serve", daemon=True)

    def start(self) -> None:
        """Start playing."""
        for played in self._sources.values():
            played.health.since = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Take no more frames; safe in signal handlers."""
        self._stopping.set()
        stream = self._stream
        if stream is not None:
            stream.stop()

    @property
    def ended(self) -> bool:
        """Whether all threads have ended, so that the segmenter may be closed."""
        return not self._thread.is_alive() and not any(each.hangs for each in self._opened)

    def close(self) -> None:
        """Stop, and wait for the thread to end, for a few seconds at most."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_TIMEOUT)

    def status(self, source: str) -> Status:
        """State of a source at this moment."""
        played = self._sources[source]
        failure = self._failure or played.health.failure  # their threads may reset them
        if failure is not None:
            return failure
        quiet = time.monotonic() - max(played.last_frame_at, played.health.since)
        if quiet < self._quiet:
            return Status("playing" if played.delivered else "starting")
        what = "no frame for" if played.delivered else "no frame yet, after"
        return Status("waiting", f"{what} {quiet:.0f} s", retrying=True)

    def health(self, source: str) -> Health:
        """What is known of a source."""
        return self._sources[source].health

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
            try:
                self._play()
                return  # stopped, or no source can ever be played, and each says why
            except Exception as error:
                if self._stopping.is_set():
                    return
                self._failure = Status.of(error)
            delay = self._retry if self._past.segmented > before else min(2 * delay, RETRY_LAST)
            self._stopping.wait(delay)

    def _play(self) -> None:
        """Play all sources until all end or the net fails."""
        sources = {
            name: Reopened(played.opening, played.health, retry=self._retry)
            for name, played in self._sources.items()
        }
        self._opened = [*(each for each in self._opened if each.hangs), *sources.values()]
        with self._open_stream(sources) as stream:
            self._stream = stream
            try:
                if self._stopping.is_set():  # `stop` came before there was a stream
                    return
                for segmented in stream.results():
                    played = self._sources[segmented.source]
                    played.last_frame_at, played.delivered = time.monotonic(), True
                    self._failure = None
                    self._publish(segmented)
            finally:
                with self._lock:
                    self._past, self._stream = _added(self._past, stream), None


def _added(past: Totals, stream: Stream) -> Totals:
    report = stream.report()
    busy = {name: past.busy.get(name, 0.0) + stage.busy for name, stage in report.stages.items()}
    sources = {name: _sum(past.sources[name], more) for name, more in report.sources.items()}
    return Totals(sources, busy, report.stages)


def _sum(past: Counts, more: SourceReport) -> Counts:
    return Counts(
        read=past.read + more.read,
        segmented=past.segmented + more.segmented,
        dropped=past.dropped + more.dropped,
        skipped=past.skipped + more.skipped,
        reconnects=past.reconnects + more.reconnects,
        latency_p50=more.latency_p50,
        latency_p99=more.latency_p99,
    )
