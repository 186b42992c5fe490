"""What every source of frames has."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..closing import Closing
from ..preprocess import Frame


@dataclass(frozen=True)
class SourceFrame:
    """One frame.

    index: its number from 0. name: its file, or empty. image: (H, W, 3), 8-bit RGB.
    time: seconds since the first frame: as the file says, None where it does not; of a camera, when
    the frame arrived.
    """

    index: int
    name: str
    image: Frame
    time: float | None = None


@dataclass(frozen=True)
class SourceInfo:
    """What is known before decoding: number of frames (0: unknown), and their rate (None: none).

    live: frames come when they come, and those that nobody takes are gone.
    """

    frames: int
    rate: Fraction | None
    live: bool = False


class Source(Closing, Iterator[SourceFrame], ABC):
    """Frames in order, once; a context manager that closes what it reads from.

    One thread iterates. `stop` may be called from any other, `close` when none iterates any more.
    skipped: damaged frames that were left out. reconnects: times that a live source came back.
    files: what is read, where it is files.
    """

    info: SourceInfo
    files: Sequence[Path] = ()
    skipped: int = 0
    reconnects: int = 0

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._frames: Generator[SourceFrame, None, None] | None = None

    @abstractmethod
    def _read(self) -> Generator[SourceFrame, None, None]:
        """Yield the frames."""

    def __next__(self) -> SourceFrame:
        if self._stopped.is_set():
            raise StopIteration
        if self._frames is None:
            self._frames = self._read()
        return next(self._frames)

    def stop(self) -> None:
        """Let no frame follow the one being read; what waits for a camera waits no longer."""
        self._stopped.set()

    def close(self) -> None:
        """Free what is read from."""
        if self._frames is not None:
            self._frames.close()
