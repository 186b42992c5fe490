"""A source through a backend: decoding, preprocessing, the net and post-processing side by side."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from edgeunet.metrics import Mask

from .backends import Backend, Result
from .backends.smoothing import Smoother
from .frames import Frame, Segmented
from .pipeline.channel import Channel, Ended
from .pipeline.stage import Stoppable
from .pipeline.stopping import Closing
from .pipeline.stopwatch import StageReport, Stopwatch
from .sources import Source, SourceFrame


@dataclass(frozen=True)
class StreamReport:
    """What a stream has done so far.

    read: frames taken from the source. segmented: frames whose masks came out. dropped: frames that
    gave way to newer ones. skipped: damaged frames that the source left out. reconnects: times that
    a live source came back. seconds: since the first frame was asked for. stages: by name.
    `read` is `segmented` and `dropped` together, and what is under way.
    """

    read: int
    segmented: int
    dropped: int
    skipped: int
    reconnects: int
    seconds: float
    stages: dict[str, StageReport]


class Stream(Closing, Stoppable, Iterator[tuple[SourceFrame, Mask]]):
    """Pairs of frame and mask (H, W), in order, computed ahead of the consumer.

    Each stage has a thread of its own, with bounded queues between them; an error in one ends all
    and is raised behind the pairs before it. Dropping the stream, or closing it, ends them too.
    """

    def __init__(
        self,
        backend: Backend,
        source: Iterable[SourceFrame],
        feed: Feed,
        smoother: Smoother | None,
    ) -> None:
        self._source = source
        self._feed = feed
        self._tally = _Tally(backend.lanes)
        # Holds nothing of this object, so that it ends with it.
        self._results = _segmented(backend, feed, self._tally, smoother)

    def __next__(self) -> tuple[SourceFrame, Mask]:
        segmented = next(self._results)
        return segmented.frame, segmented.mask

    def results(self) -> Iterator[Segmented]:
        """The same with the gate's presence; a frame comes out of one of the two."""
        return self._results

    def stop(self) -> None:
        """Take no more frames; those under way still come out. For signal handlers and threads."""
        self._feed.stop()

    def close(self) -> None:
        """End all stages, and close the source.

        Where waiting for the stages was broken off, by Ctrl-C, the thread that still reads the
        source frees it, after the frame that it is at.
        """
        self._feed.stop()
        self._results.close()
        if isinstance(self._source, Source):
            self._source.close()

    def report(self) -> StreamReport:
        """What was done so far; may be called from any thread."""
        tally, source = self._tally, self._source
        live = source if isinstance(source, Source) else None
        stages = {"decode": self._feed.decoding, **tally.stages}
        return StreamReport(
            read=self._feed.read,
            segmented=tally.segmented,
            dropped=self._feed.dropped,
            skipped=live.skipped if live else 0,
            reconnects=live.reconnects if live else 0,
            seconds=tally.seconds,
            stages={name: watch.report() for name, watch in stages.items()},
        )


class _Tally:
    """What the consumer's thread counts."""

    def __init__(self, lanes: int) -> None:
        self.segmented = 0
        self.stages = {
            "preprocess": Stopwatch(),
            "infer": Stopwatch(threads=lanes),
            "postprocess": Stopwatch(),
        }
        self._started: float | None = None
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        """From `start` until now, or until `end`."""
        if self._started is None:
            return 0.0
        return (self._ended or time.perf_counter()) - self._started

    def start(self) -> None:
        self._started = time.perf_counter()

    def end(self) -> None:
        self._ended = time.perf_counter()

    def add(self, result: Result) -> None:
        for name, watch in self.stages.items():
            watch.add(getattr(result.timings, name), frames=len(result.masks))


class _Batches(Stoppable, Iterator[Sequence[Frame]]):
    """The pixels of each batch, for the backend; its frames wait in `waiting` for the masks."""

    def __init__(self, feed: Feed) -> None:
        self.waiting: deque[list[SourceFrame]] = deque()
        self._feed = feed

    def __next__(self) -> Sequence[Frame]:
        group = next(self._feed)
        self.waiting.append(group)
        return [frame.image for frame in group]

    def stop(self) -> None:
        """See `Stoppable`."""
        self._feed.stop()


def _segmented(
    backend: Backend, feed: Feed, tally: _Tally, smoother: Smoother | None
) -> Generator[Segmented, None, None]:
    batches = _Batches(feed)
    with ExitStack() as stack:
        stack.callback(tally.end)
        stack.enter_context(feed)
        results = backend.stream(batches, smoother=smoother)
        stack.callback(results.close)
        stack.callback(feed.stop)  # first: the stages may be waiting for it
        tally.start()
        for result in results:
            tally.add(result)
            frames = batches.waiting.popleft()
            for index, frame in enumerate(frames):
                presence = None if result.presence is None else result.presence[index]
                tally.segmented += 1
                yield Segmented(frame, result.masks[index], presence)


_PATIENCE = 1.0  # seconds


class Feed(Closing, Stoppable, Iterator[list[SourceFrame]]):
    """Batches of frames of one size, in order; a fault follows the frames before it.

    read: frames taken from the source. dropped: those of them that gave way to newer ones.

    Args:
        batch: frames that a batch holds at most; it ends early where the frames' size changes.
        max_delay: seconds that a batch's first frame waits for the others, None for ever.
        drop_oldest: keep the newest frames where the consumer is slower than the source.
    """

    def __init__(
        self,
        source: Iterable[SourceFrame],
        *,
        batch: int,
        max_delay: float | None,
        drop_oldest: bool,
    ) -> None:
        self.read = 0
        self.decoding = Stopwatch()
        self._source = source
        self._batch = batch
        self._max_delay = max_delay
        # A live source's newest batch, or the batch after the one that is being prepared.
        self._channel: Channel[SourceFrame] = Channel(batch, drop_oldest=drop_oldest)
        self._next: SourceFrame | None = None
        self._thread = threading.Thread(target=self._produce, name="edgeunet-decode", daemon=True)

    @property
    def dropped(self) -> int:
        """Frames that gave way to newer ones."""
        return self._channel.dropped

    def __next__(self) -> list[SourceFrame]:
        if self._thread.ident is None:
            self._thread.start()
        try:
            group = [self._next or self._channel.get()]
        except Ended:
            raise StopIteration from None
        self._next = None
        due = None if self._max_delay is None else time.monotonic() + self._max_delay
        while len(group) < self._batch:
            try:
                frame = self._channel.get(None if due is None else max(0, due - time.monotonic()))
            except Exception:  # the end, the delay, or a fault, which comes again behind this batch
                break
            if frame.image.shape != group[0].image.shape:
                self._next = frame
                break
            group.append(frame)
        return group

    def stop(self) -> None:
        """Read no more; the frames that were read still come out."""
        if isinstance(self._source, Source):
            self._source.stop()
        self._channel.end()

    def close(self) -> None:
        """Stop, and wait for the source to be done with the frame it is at."""
        self.stop()
        # A source ends soon when told to; a caller's own iterator cannot be told.
        if self._thread.ident is not None:
            self._thread.join(None if isinstance(self._source, Source) else _PATIENCE)

    def _produce(self) -> None:
        error: BaseException | None = None
        try:
            frames = iter(self._source)
            while True:
                with self.decoding.lap():
                    frame = next(frames, None)
                if frame is None:
                    break
                if not self._channel.put(frame):
                    break
                self.read += 1
        except BaseException as raised:
            error = raised
        self._channel.end(error)
