"""Reads several sources at once, and batches their frames."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Literal

from edgeunet.errors import EdgeUNetError, FrameError, SourceError

from ..frames import Batch, SourceFrame
from ..pipeline.channel import Ended, Interrupted, never
from ..pipeline.lease import Supply
from ..pipeline.stopping import Closing
from ..pipeline.stopwatch import StageReport, Stopwatch
from ..pipeline.turns import Turns
from .base import Source
from .named import Input

_log = logging.getLogger(__name__)
Drop = Literal["oldest", "none"]

LIVE_DELAY = 0.05
"""Seconds that a live frame waits for its batch to fill; a shorter delay is not noticed."""

_QUIET = 1.0
"""Seconds without a frame after which no batch waits for a live source: it is slow, or lost."""

MOST_OPEN = 16
"""Most sources with an end that are open at a time. Others wait: each needs a decoder's memory."""


class Feed(Closing, Supply[Batch]):
    """Reads sources, each in its own thread, and hands out batches of their frames.

    The sources that have a frame take turns, and the frames of each stay in order. A source that
    is slow, absent or in trouble holds up none of the others.

    If a source fails, its frames read before are delivered, and so are those of the others; the
    error comes behind all of them. That of a single source is raised as it is.

    Attributes:
        readers: by name.

    Args:
        inputs: the sources, by name.
        fit: turns a frame into one that the net takes, in the reading threads.
        batch: largest number of frames in a batch.
        max_delay: seconds that a batch's first frame waits for the others; infinity for no limit.
            None: `LIVE_DELAY` if the source is live or there are several, otherwise no limit; and
            if all of several are live, batches are smaller while some are quiet.
        drop: "oldest": keep the newest frames of each source if the consumer is slower; None: of
            live sources.
        confidence: see `Batch.wants_confidence`.
    """

    def __init__(
        self,
        inputs: Mapping[str, Input],
        *,
        fit: Callable[[SourceFrame], SourceFrame],
        batch: int,
        max_delay: float | None = None,
        drop: Drop | None = None,
        confidence: bool = False,
    ) -> None:
        self._batch = batch
        self._max_delay = max_delay
        self._confidence = confidence
        # Together they hold the batch after the one that is being prepared.
        self._turns: Turns[SourceFrame] = Turns(len(inputs), depth=-(-batch // len(inputs)))
        opening = _Limit(MOST_OPEN)
        self.readers = {
            name: Reader(name, given, self._turns, number, fit=fit, drop=drop, opening=opening)
            for number, (name, given) in enumerate(inputs.items())
        }
        self._taking = threading.Lock()

    @property
    def read(self) -> int:
        """Frames taken from the sources."""
        return sum(reader.read for reader in self.readers.values())

    @property
    def decoding(self) -> StageReport:
        """Times of the reading threads."""
        return Stopwatch.joined([reader.watch for reader in self.readers.values()])

    def take(self, interrupted: Callable[[], bool] = never) -> Batch:
        """See `Supply`."""
        with self._taking:
            for reader in self.readers.values():
                reader.start()
            if interrupted():
                raise Interrupted
            frames = list[SourceFrame]()
            with suppress(Ended):
                frames.append(self._turns.get(interrupted=interrupted))
            if not frames:
                raise self.failure() or Ended
            delay = self._delay()
            due = None if delay is None else time.monotonic() + delay
            while len(frames) < self._most():
                left = None if due is None else max(0, due - time.monotonic())
                try:
                    frames.append(self._turns.get(left, interrupted))
                except (Ended, Interrupted, TimeoutError):  # told at the next call
                    break
            reading = sum(reader.reading for reader in self.readers.values())
            return Batch(frames, self._confidence, max(1, reading))

    def _most(self) -> int:
        """Frames to batch now: less while some live sources are quiet.

        The next frames of the others in their place would take time, and be late.
        """
        readers = self.readers.values()
        asked = self._max_delay is not None
        if asked or len(readers) == 1 or not all(reader.live or reader.ended for reader in readers):
            return self._batch
        giving = sum(reader.gives for reader in readers)
        return max(1, -(-self._batch * giving // len(readers)))

    def _delay(self) -> float | None:
        """Seconds to wait for a batch to fill, None for no limit."""
        readers = self.readers.values()
        if self._max_delay is None and (len(readers) > 1 or any(each.live for each in readers)):
            return LIVE_DELAY
        return self._max_delay

    def failure(self) -> BaseException | None:
        """The error of a single source, or one that tells of those of several."""
        failed = [reader for reader in self.readers.values() if reader.error is not None]
        if not failed:
            return None
        first, count = failed[0], len(self.readers)
        if count == 1:
            return first.error
        rest = "; the others are done" if len(failed) < count else ""
        error = SourceError(
            f"{len(failed)} of {count} sources failed{rest}. The first: {first.name}: "
            f"{told(first.error)}"
        )
        error.__cause__ = first.error
        return error

    def wake(self) -> None:
        """See `Supply`."""
        self._turns.wake()

    def stop(self) -> None:
        """Read no more; the frames that were read are delivered."""
        for reader in self.readers.values():
            reader.stop()

    def close(self) -> None:
        """Stop, and wait for the sources to finish their current frame."""
        self.stop()
        for reader in self.readers.values():
            reader.join()

    def free(self) -> None:
        """Close all sources."""
        for reader in self.readers.values():
            reader.free()


class Reader:
    """Reads one of a feed's sources in a thread of its own.

    source: None until it is open. read: number of frames taken from it. watch: times decoding.
    error: why it ended, None at its own end. reading: it is open and gives frames. ended: it gives
    no more. whole: it was read to its own end.
    """

    def __init__(
        self,
        name: str,
        given: Input,
        turns: Turns[SourceFrame],
        number: int,
        *,
        fit: Callable[[SourceFrame], SourceFrame],
        drop: Drop | None,
        opening: _Limit,
    ) -> None:
        self.name = name
        self.source = given.source
        self.read = 0
        self.watch = Stopwatch()
        self.error: BaseException | None = None
        self.reading = self.ended = self.whole = False
        self._latest = -math.inf  # when the last frame came
        self._given = given
        self._turns, self._number = turns, number
        self._fit, self._drop, self._opening = fit, drop, opening
        self._stopped = False
        self._changing = threading.RLock()  # held for moments; a signal handler may call `stop`
        self._thread = threading.Thread(target=self._run, name="edgeunet-decode", daemon=True)

    @property
    def live(self) -> bool:
        """Whether the source is live, as far as is known before it is open."""
        return self.source is not None and self.source.info.live

    @property
    def gives(self) -> bool:
        """Whether frames came lately."""
        return time.monotonic() - self._latest < _QUIET

    @property
    def dropped(self) -> int:
        """Frames that newer ones replaced."""
        return self._turns.dropped[self._number]

    def start(self) -> None:
        """Start reading, unless it has begun."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Read no more; the frames that were read are delivered."""
        with self._changing:
            self._stopped = True
            if self.source is not None:
                self.source.stop()
        self._opening.wake()
        self._turns.end(self._number)

    def fail(self, error: Exception) -> None:
        """Stop with an error of whoever takes the frames."""
        if self.error is None:
            self.error = error
            _log.warning("%s: %s", self.name, told(error))
        self.stop()

    def join(self) -> None:
        """Wait for the current frame. The thread closes a source that is still being opened."""
        if self._thread.ident is not None and self.source is not None:
            self._thread.join(self.source.close_timeout)

    def free(self) -> None:
        """Close the source: now, or after the frame that is being read."""
        self.stop()
        if self.source is not None:
            self.source.close()

    def _run(self) -> None:
        try:
            if self._given.waits:
                with self._opening.one_more(lambda: self._stopped):
                    self._open_and_read()
            else:
                self._open_and_read()
        except BaseException as raised:
            if not self._stopped:
                self.error = raised
                if len(self._turns.dropped) > 1:
                    _log.warning("%s: %s The other sources go on.", self.name, told(raised))
        self.reading, self.ended = False, True
        self._turns.end(self._number)

    def _open_and_read(self) -> None:
        if self._stopped:
            return
        source = self.source or self._given.open()
        with self._changing:
            self.source = source
            if self._stopped:
                source.stop()
        with source:
            self.reading = True
            self._read(source)

    def _read(self, source: Source) -> None:
        drop_oldest = (self._drop or ("oldest" if source.info.live else "none")) == "oldest"
        while True:
            with self.watch.lap():
                frame = next(source, None)
                if frame is None:
                    self.whole = not self._stopped
                    return
                frame = self._fitted(frame, source)  # the same name: the raw one may be large
            if frame is None:
                continue
            self._latest = math.inf  # while it waits for room
            if not self._turns.put(self._number, frame, drop_oldest=drop_oldest):
                return
            self._latest = time.monotonic()
            self.read += 1

    def _fitted(self, frame: SourceFrame, source: Source) -> SourceFrame | None:
        """The frame as the net takes it, None if the source goes on without it."""
        try:
            fitted = self._fit(frame)
        except FrameError as error:
            source.reject(error)
            return None
        return replace(fitted, source=self.name, read_at=time.perf_counter())


class _Limit:
    """Lets so many threads in at a time."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._changed = threading.Condition()  # reentrant, for signal handlers

    def one_more(self, stopped: Callable[[], bool]) -> _Limit:
        """Wait for a free place, or until `stopped`; a context manager that gives it back."""
        with self._changed:
            self._changed.wait_for(lambda: self._free > 0 or stopped())
            self._free -= 1
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._free += 1
            self._changed.notify_all()

    def wake(self) -> None:
        """Make all who wait call their `stopped`."""
        with self._changed:
            self._changed.notify_all()


def told(error: BaseException | None) -> str:
    """An error in words, with its kind if it is not one of ours."""
    return str(error) if isinstance(error, EdgeUNetError) else f"{type(error).__name__}: {error}"
