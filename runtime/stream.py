"""A source through a backend: decoding, preprocessing, net and post-processing in parallel."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import cv2

from edgeunet.bundle.statistics import FirstFrames
from edgeunet.errors import EdgeUNetError, FrameError
from edgeunet.metrics import Mask
from edgeunet.shapes.regions import Legend

from .backends import Backend
from .backends.smoothing import Smoother
from .frames import Batch, SourceFrame
from .pipeline.channel import Channel, Interrupted, never
from .pipeline.lease import Supply
from .pipeline.stopping import Closing
from .pipeline.stopwatch import StageReport, Stopwatch
from .results import FrameResult
from .sources import Source


@dataclass(frozen=True)
class StreamReport:
    """What a stream has done so far.

    read: frames taken from the source. segmented: frames with a mask. dropped: frames that newer
    ones replaced. skipped: damaged frames that the source left out. reconnects: how often a live
    source reconnected. seconds: time since the first frame was requested. stages: by name.
    unlike: how the first frames differ from those that the bundle was made with, None if they do
    not, or if that is not known.
    `read` is `segmented` plus `dropped` plus the frames under way.
    """

    read: int
    segmented: int
    dropped: int
    skipped: int
    reconnects: int
    seconds: float
    stages: dict[str, StageReport]
    unlike: str | None = None


class Stream(Closing, Iterator[tuple[SourceFrame, Mask]]):
    """Pairs of frame and mask (H, W), in order, computed ahead of the consumer.

    Each stage has its own thread, with bounded queues between them. If one raises, earlier pairs
    are delivered first, then the error. Closing or dropping the stream ends all threads and closes
    the source.
    """

    def __init__(
        self, backend: Backend, feed: Feed, smoother: Smoother | None, first: FirstFrames
    ) -> None:
        self._feed, self._first = feed, first
        self._progress = _Progress()
        # Holds no reference to this object, so that dropping the stream ends it.
        self._results = _segmented(backend, feed, self._progress, smoother, first)
        # Also if it never started, in which case its `finally` does not run.
        weakref.finalize(self._results, feed.source.close).atexit = False
        self._taking = threading.RLock()
        self._ended = False
        self._error: EdgeUNetError | None = None

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
        """End all stages, and close the source.

        If Ctrl-C interrupts the wait for the stages, the reading thread frees the source after its
        current frame.
        """
        self._feed.stop()
        with self._taking:  # another thread may be waiting for a frame; it gets one, or the end
            self._ended = True
            self._results.close()
        self._feed.source.close()

    def abort(self, error: EdgeUNetError) -> None:
        """Close the stream if it has not ended; whoever asks for more frames gets this error."""
        if not self._ended:
            self._error = error
            self.close()

    def _take(self) -> FrameResult:
        with self._taking:
            try:
                return next(self._results)
            except StopIteration:
                self._ended = True
                if self._error is not None:
                    raise self._error from None
                raise

    def report(self) -> StreamReport:
        """Counts and times so far; may be called from any thread."""
        progress, source = self._progress, self._feed.source
        stages = {"decode": self._feed.decoding, **progress.stages}
        return StreamReport(
            read=self._feed.read,
            segmented=progress.segmented,
            dropped=self._feed.dropped,
            skipped=source.skipped,
            reconnects=source.reconnects,
            seconds=progress.seconds,
            stages={name: watch.report() for name, watch in stages.items()},
            unlike=self._first.difference,
        )


class _Results(Iterator[FrameResult]):
    """Takes results from a stream, and keeps it alive."""

    def __init__(self, take: Callable[[], FrameResult]) -> None:
        self._take = take

    def __next__(self) -> FrameResult:
        return self._take()


class Feed(Closing, Supply[Batch]):
    """Reads a source in its own thread and hands out batches of frames of one size, in order.

    If the source raises, the frames read before are delivered first, then the error.

    Attributes:
        source: the source. read: number of frames taken from it.

    Args:
        fit: turns a frame into one that the net takes, in the reading thread.
        batch: largest number of frames in a batch; it ends early when the frames' size changes.
        max_delay: seconds that a batch's first frame waits for the others; None: no limit.
        drop_oldest: keep the newest frames if the consumer is slower than the source.
        confidence: see `Batch.wants_confidence`.
    """

    def __init__(
        self,
        source: Source,
        *,
        fit: Callable[[SourceFrame], SourceFrame],
        batch: int,
        max_delay: float | None,
        drop_oldest: bool,
        confidence: bool = False,
    ) -> None:
        self.source = source
        self._fit = fit
        self.read = 0
        self.decoding = Stopwatch()
        self._batch = batch
        self._max_delay = max_delay
        self._confidence = confidence
        # A live source's newest batch, or the batch after the one that is being prepared.
        self._channel: Channel[SourceFrame] = Channel(batch, drop_oldest=drop_oldest)
        self._taking = threading.Lock()
        self._next: SourceFrame | None = None
        self._thread = threading.Thread(target=self._produce, name="edgeunet-decode", daemon=True)

    @property
    def dropped(self) -> int:
        """Frames that newer ones replaced."""
        return self._channel.dropped

    def take(self, interrupted: Callable[[], bool] = never) -> Batch:
        """See `Supply`."""
        with self._taking:
            if self._thread.ident is None:
                self._thread.start()
            if interrupted():
                raise Interrupted
            frames = [self._next or self._channel.get(interrupted=interrupted)]
            self._next = None
            due = None if self._max_delay is None else time.monotonic() + self._max_delay
            while len(frames) < self._batch:
                left = None if due is None else max(0, due - time.monotonic())
                try:
                    frame = self._channel.get(left, interrupted)
                except Exception:  # the end, the delay, or an error, which is raised again later
                    break
                if _form(frame) != _form(frames[0]):
                    self._next = frame
                    break
                frames.append(frame)
            return Batch(frames, self._confidence)

    def wake(self) -> None:
        """See `Supply`."""
        self._channel.wake()

    def stop(self) -> None:
        """Read no more; the frames that were read are delivered."""
        self.source.stop()
        self._channel.end()

    def close(self) -> None:
        """Stop, and wait for the source to finish its current frame."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(self.source.close_timeout)

    def _produce(self) -> None:
        error: BaseException | None = None
        try:
            while True:
                with self.decoding.lap():
                    frame = next(self.source, None)
                    if frame is None:
                        break
                    frame = self._fitted(frame)  # under the same name: the raw one may be large
                if frame is None:
                    continue
                if not self._channel.put(frame):
                    break
                self.read += 1
        except BaseException as raised:
            error = raised
        self._channel.end(error)

    def _fitted(self, frame: SourceFrame) -> SourceFrame | None:
        """The frame as the net takes it, None if the source goes on without it."""
        try:
            return self._fit(frame)
        except FrameError as error:
            self.source.reject(error)
            return None


def _form(frame: SourceFrame) -> tuple[object, ...]:
    """What all frames of a batch have in common."""
    return frame.image.shape, frame.image.dtype


class _Progress:
    """What the consumer's thread counts. started, ended: by `time.perf_counter`."""

    def __init__(self) -> None:
        self.segmented = 0
        self.started: float | None = None
        self.ended: float | None = None
        self.stages = {name: Stopwatch() for name in ("preprocess", "infer", "postprocess")}

    @property
    def seconds(self) -> float:
        return 0.0 if self.started is None else (self.ended or time.perf_counter()) - self.started

    def end(self) -> None:
        self.ended = time.perf_counter()

    def add(self, batch: Batch) -> None:
        for name, watch in self.stages.items():
            lanes = batch.timings.lanes if name == "infer" else 1
            watch.add(getattr(batch.timings, name), frames=len(batch), threads=lanes)


def _segmented(
    backend: Backend,
    feed: Feed,
    progress: _Progress,
    smoother: Smoother | None,
    first: FirstFrames,
) -> Generator[FrameResult, None, None]:
    with ExitStack() as stack:
        stack.enter_context(_one_opencv_thread())
        stack.callback(progress.end)
        stack.callback(first.end)
        stack.callback(feed.source.close)
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
                progress.segmented += 1
                first.add(segmented.frame.image)
                yield FrameResult(**vars(segmented), legend=legend)


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
