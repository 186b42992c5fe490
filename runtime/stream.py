"""Sources through a backend: decoding, preprocessing, net and post-processing in parallel."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import cv2

from edgeunet.bundle.statistics import FirstFrames
from edgeunet.errors import EdgeUNetError
from edgeunet.metrics import Mask
from edgeunet.shapes.regions import Legend

from .backends import Backend
from .backends.smoothing import Smoother
from .frames import Batch, SourceFrame
from .pipeline.stopping import Closing
from .pipeline.stopwatch import StageReport, Stopwatch
from .results import FrameResult
from .sources import Source
from .sources.feed import Feed, Reader, told


@dataclass(frozen=True)
class SourceReport:
    """What became of one source of a stream.

    read, segmented, dropped, skipped, reconnects: see `StreamReport`. latency_p50, latency_p99:
    milliseconds from when a frame was read until its result was delivered, of the last frames.
    live: whether it is; False before it is open. whole: it was read to its own end.
    unlike: how its first frames differ from those that the bundle was made with, None if they do
    not, or if that is not known. error: why it failed, None if it did not.
    `read` is `segmented` plus `dropped` plus the frames under way.
    """

    read: int
    segmented: int
    dropped: int
    skipped: int
    reconnects: int
    latency_p50: float
    latency_p99: float
    live: bool
    whole: bool
    unlike: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class StreamReport:
    """What a stream has done so far.

    read: frames taken from the sources. segmented: frames with a mask. dropped: frames that newer
    ones replaced. skipped: damaged frames that the sources left out. reconnects: how often live
    sources reconnected. seconds: time since the first frame was requested. stages: by name.
    unlike: see `SourceReport`. sources: by name, "" if there is one without.
    fairness: 1 if the net took the same share of the frames of each of several sources, 1 / N if it
    took those of one of N alone (the index of Jain, Chiu and Hawe, DEC-TR-301, 1984); None before
    there are two with a frame.
    """

    read: int
    segmented: int
    dropped: int
    skipped: int
    reconnects: int
    seconds: float
    stages: dict[str, StageReport]
    unlike: str | None
    sources: dict[str, SourceReport]
    fairness: float | None


class Stream(Closing, Iterator[tuple[SourceFrame, Mask]]):
    """Pairs of frame and mask (H, W), in order of each source, computed ahead of the consumer.

    Each stage has its own thread, with bounded queues between them. If one raises, earlier pairs
    are delivered first, then the error; see `Feed` for errors of one of several sources. Closing or
    dropping the stream ends all threads and closes the sources.
    """

    def __init__(
        self,
        backend: Backend,
        feed: Feed,
        smoother: Smoother | None,
        first: Mapping[str, FirstFrames],
    ) -> None:
        self._feed, self._first = feed, first
        self._progress = _Progress(list(feed.readers))
        # Holds no reference to this object, so that dropping the stream ends it.
        self._results = _segmented(backend, feed, self._progress, smoother, first)
        # Also if it never started, in which case its `finally` does not run.
        self._freeing = weakref.finalize(self._results, feed.free)
        self._freeing.atexit = False
        self._taking = threading.RLock()
        self._ended = False
        self._error: EdgeUNetError | None = None  # of `abort`
        self._told = False  # whether the sources' failure was raised

    def __next__(self) -> tuple[SourceFrame, Mask]:
        segmented = self._take()
        return segmented.frame, segmented.mask

    def results(self) -> Iterator[FrameResult]:
        """Iterate over results, with presence and confidence too, instead of pairs.

        Iterating over either consumes the frames.
        """
        return _Results(self._take)

    def stop(self) -> None:
        """Read no more frames; those under way are delivered. For signal handlers and threads."""
        self._feed.stop()

    def close(self) -> None:
        """End all stages, and close the sources.

        If Ctrl-C interrupts the wait for the stages, the reading thread frees the source after its
        current frame.
        """
        self._feed.stop()
        with self._taking:  # another thread may be waiting for a frame; it gets one, or the end
            self._ended = True
            self._results.close()
        self._feed.free()

    def abort(self, error: EdgeUNetError) -> None:
        """Close the stream if it has not ended; whoever asks for more frames gets this error."""
        if not self._ended:
            self._error = error
            self.close()

    def fail(self, source: str, error: Exception) -> None:
        """Give up one of the sources, with the error of whoever takes its results.

        Its results that are under way still come.
        """
        self._feed.readers[source].fail(error)

    def is_finished(self, source: str) -> bool:
        """Whether all results of one of the sources were delivered."""
        return self._progress.is_finished(self._feed.readers[source])

    @property
    def sources(self) -> dict[str, Source | None]:
        """The sources by name, None for those that are not open yet."""
        return {name: reader.source for name, reader in self._feed.readers.items()}

    def _take(self) -> FrameResult:
        with self._taking:
            try:
                return next(self._results)
            except BaseException as error:
                # It has freed its sources. They hold an error, whose traceback holds this stream.
                self._freeing.detach()
                self._ended = isinstance(error, StopIteration)
                late, self._told = self._late(), True
                if self._ended and late is not None:
                    raise late from None
                raise

    def _late(self) -> BaseException | None:
        """What is to be raised at the end: of `abort`, or of a source that was given up.

        The stages read ahead: the end of the sources may be known before one of them is given up.
        """
        return self._error or (None if self._told else self._feed.failure())

    def report(self) -> StreamReport:
        """Counts and times so far; may be called from any thread."""
        progress = self._progress
        stages = {name: watch.report() for name, watch in progress.stages.items()}
        sources = {name: self._report_of(reader) for name, reader in self._feed.readers.items()}
        return StreamReport(
            read=self._feed.read,
            segmented=progress.segmented,
            dropped=sum(each.dropped for each in sources.values()),
            skipped=sum(each.skipped for each in sources.values()),
            reconnects=sum(each.reconnects for each in sources.values()),
            seconds=progress.seconds,
            stages={"decode": self._feed.decoding, **stages},
            unlike=_joined({name: each.unlike for name, each in sources.items()}),
            sources=sources,
            fairness=_fairness(sources.values()),
        )

    def _report_of(self, reader: Reader) -> SourceReport:
        latency, source = self._progress.latencies[reader.name].report(), reader.source
        return SourceReport(
            read=reader.read,
            segmented=self._progress.counts[reader.name],
            dropped=reader.dropped,
            skipped=0 if source is None else source.skipped,
            reconnects=0 if source is None else source.reconnects,
            latency_p50=latency.p50,
            latency_p99=latency.p99,
            live=reader.live,
            whole=reader.whole,
            unlike=self._first[reader.name].difference,
            error=None if reader.error is None else told(reader.error),
        )


def _joined(told: Mapping[str, str | None]) -> str | None:
    """What is told of some sources, with their names if there are several."""
    found = [
        words if len(told) == 1 else f"{name}: {words}" for name, words in told.items() if words
    ]
    return "; ".join(found) or None


def _fairness(sources: Iterable[SourceReport]) -> float | None:
    """See `StreamReport`."""
    shares = [
        each.segmented / (each.segmented + each.dropped)
        for each in sources
        if each.segmented + each.dropped
    ]
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if len(shares) > 1 and squares else None


class _Results(Iterator[FrameResult]):
    """Takes results from a stream, and keeps it alive."""

    def __init__(self, take: Callable[[], FrameResult]) -> None:
        self._take = take

    def __next__(self) -> FrameResult:
        return self._take()


class _Progress:
    """What the consumer's thread counts. started, ended: by `time.perf_counter`.

    counts: frames segmented, by source. latencies: seconds from reading to delivery, by source.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self.counts = dict.fromkeys(sources, 0)
        self.latencies = {name: Stopwatch() for name in sources}
        self.started: float | None = None
        self.ended: float | None = None
        self.stages = {name: Stopwatch() for name in ("preprocess", "infer", "postprocess")}

    @property
    def seconds(self) -> float:
        return 0.0 if self.started is None else (self.ended or time.perf_counter()) - self.started

    @property
    def segmented(self) -> int:
        return sum(self.counts.values())

    def is_finished(self, reader: Reader) -> bool:
        done = self.counts[reader.name] + reader.dropped
        return reader.ended and reader.read == done

    def end(self) -> None:
        self.ended = time.perf_counter()

    def add(self, batch: Batch) -> None:
        for name, watch in self.stages.items():
            lanes = batch.timings.lanes if name == "infer" else 1
            watch.add(getattr(batch.timings, name), frames=len(batch), threads=lanes)

    def deliver(self, frame: SourceFrame) -> None:
        self.counts[frame.source] += 1
        if frame.read_at is not None:
            self.latencies[frame.source].add(time.perf_counter() - frame.read_at)


def _segmented(
    backend: Backend,
    feed: Feed,
    progress: _Progress,
    smoother: Smoother | None,
    first: Mapping[str, FirstFrames],
) -> Generator[FrameResult, None, None]:
    with ExitStack() as stack:
        stack.enter_context(_one_opencv_thread())
        stack.callback(progress.end)
        for each in first.values():
            stack.callback(each.end)
        stack.callback(feed.free)
        stack.enter_context(feed)
        results = backend.stream(feed, smoother=smoother)
        stack.callback(results.close)
        stack.callback(feed.stop)  # first: the stages may be waiting for it
        manifest = backend.bundle.manifest
        legend = Legend(manifest.classes, manifest.palette)
        progress.started = time.perf_counter()
        for batch in results:
            progress.add(batch)
            for segmented in batch:
                progress.deliver(segmented.frame)
                first[segmented.source].add(segmented.frame.image)
                yield FrameResult(**vars(segmented), legend=legend)
            if smoother is not None:
                for name, reader in feed.readers.items():
                    if progress.is_finished(reader):
                        smoother.forget(name)


_opencv = threading.RLock()  # reentrant, since the garbage collector may end a stream anywhere
_opencv_threads: list[int] = []  # one for each stream: OpenCV's setting before the first


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Limit OpenCV to one thread, because stages run in parallel and the net needs the cores.

    The setting belongs to the process; the last stream to end restores it.
    """
    with _opencv:
        _opencv_threads.append(_opencv_threads[0] if _opencv_threads else cv2.getNumThreads())
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        with _opencv:
            before = _opencv_threads.pop()
            if not _opencv_threads:
                cv2.setNumThreads(before)
