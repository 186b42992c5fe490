"""The interface of every source of frames."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from edgeunet.errors import FrameError

from ..frames import NOTHING_IGNORED, SourceFrame, SourceInfo
from ..pipeline.stopping import Closing, StopFlag

MOST_TOLD = 100
"""Most faults of one source that are kept as text."""


class Source(Closing, Iterator[SourceFrame], ABC):
    """An iterator over frames in order, and a context manager that closes what it reads.

    One thread iterates. Any other thread may call `stop` and `close`, and a signal handler may call
    `stop`. `_free` frees the file or camera, never while a frame is being read.

    skipped: number of damaged frames that were left out. damaged: what is wrong with the first
    `MOST_TOLD` damaged frames or files of a source that has an end. ignored: what is not read.
    reconnects: how often a live source reconnected. files: the files that are read, those in an
    archive as if it were a folder; empty for other sources.
    close_timeout: seconds to wait for the reading thread when closing; None: until it has read its
    current frame.
    """

    info: SourceInfo
    ignored = NOTHING_IGNORED
    files: Sequence[Path] = ()
    close_timeout: float | None = None
    skipped: int = 0
    reconnects: int = 0

    def __init__(self) -> None:
        self.damaged: list[str] = []
        self._stopped = StopFlag()
        self._frames: Generator[SourceFrame, None, None] | None = None
        self._using = threading.RLock()  # held for moments, never while a frame is being read
        self._reading = False
        self._closing = False

    @abstractmethod
    def _read(self) -> Generator[SourceFrame, None, None]:
        """Yield the frames."""

    def _free(self) -> None:
        """Free the file or camera; may be called again."""

    def __next__(self) -> SourceFrame:
        with self._using:
            if self._stopped.is_set():
                raise StopIteration
            if self._frames is None:
                self._frames = self._read()
            self._reading = True
        try:
            return next(self._frames)
        finally:
            with self._using:
                self._reading = False
                if self._closing:
                    self._end()

    def stop(self) -> None:
        """End after the frame that is being read.

        A wait between two attempts to connect ends at once, and so does a blocking read from V4L2.
        Other blocking reads, and connecting, take up to their timeout, see `Timeouts`.
        """
        self._stopped.set()

    def close(self) -> None:
        """Stop, and free the file or camera: now, or after the frame that is being read.

        This does not wait for that frame, so it is safe when the reading thread hangs.
        """
        self.stop()
        with self._using:
            self._closing = True
            if not self._reading:
                self._end()

    def reject(self, error: FrameError) -> None:
        """The net does not take the frame that came last: go on without it, or raise the error."""
        raise error

    def _leave_out(self, fault: str) -> None:
        """Count a damaged frame, and say what is wrong with it."""
        self.skipped += 1
        if len(self.damaged) < MOST_TOLD:
            self.damaged.append(fault)

    def _end(self) -> None:
        if self._frames is not None:
            self._frames.close()
        self._free()
