"""What every source of frames has."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from ..frames import SourceFrame, SourceInfo
from ..pipeline.stopping import Closing, StopFlag


class Source(Closing, Iterator[SourceFrame], ABC):
    """Frames in order, once; a context manager that closes what it reads from.

    One thread iterates. `stop` and `close` may be called from any other, `stop` from a signal
    handler as well. What a source reads from is freed by `_free`, never while a frame is
    being read.

    skipped: damaged frames that were left out. reconnects: times that a live source came back.
    files: what is read, where it is files.
    close_timeout: seconds to wait, when closing, for the thread that reads; None waits until it is
    done with its frame.
    """

    info: SourceInfo
    files: Sequence[Path] = ()
    close_timeout: float | None = None
    skipped: int = 0
    reconnects: int = 0

    def __init__(self) -> None:
        self._stopped = StopFlag()
        self._frames: Generator[SourceFrame, None, None] | None = None
        self._using = threading.RLock()  # held for moments, never while a frame is being read
        self._reading = False
        self._closing = False

    @abstractmethod
    def _read(self) -> Generator[SourceFrame, None, None]:
        """Yield the frames."""

    def _free(self) -> None:
        """Free what is read from; may be called again."""

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
        """Let no frame follow the one being read.

        The wait between two tries to connect ends at once. A read that blocks does not,
        but for V4L2's: it takes up to its timeout, and so does connecting; see `Timeouts`.
        """
        self._stopped.set()

    def close(self) -> None:
        """Stop, and free what is read from: now, or once the frame that is being read is there.

        It does not wait for that frame: who could not wait for the reading thread comes here too.
        """
        self.stop()
        with self._using:
            self._closing = True
            if not self._reading:
                self._end()

    def _end(self) -> None:
        if self._frames is not None:
            self._frames.close()
        self._free()
