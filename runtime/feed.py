"""A source, read in a thread of its own and handed out in batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator

from .channel import Channel, Ended
from .closing import Closing
from .pipeline import Stoppable
from .sources import Source, SourceFrame
from .stopwatch import Stopwatch

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
