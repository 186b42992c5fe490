"""Files as a camera would give them: at their own rate, and again from the start."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace
from fractions import Fraction

from edgeunet.errors import SourceError

from ..sources import Source, SourceFrame, SourceInfo, open_source

# Frames a second of images, which have no rate of their own.
_IMAGE_RATE = Fraction(1)


def open_playing(source: str) -> Source:
    """A live source as it is; anything else in real time and in a loop.

    Raises:
        See `open_source`.
    """
    opened = open_source(source)
    return opened if opened.info.live else Looped(source, opened)


class Looped(Source):
    """A source that has an end, over and over, at its own rate; images come one a second.

    It counts as live: where the net is slower than the film, frames are dropped, as of a camera.
    """

    def __init__(self, source: str, opened: Source) -> None:
        super().__init__()
        self._source = source
        self._opened = opened
        self._period = 1 / float(opened.info.rate or _IMAGE_RATE)
        self.info = SourceInfo(0, opened.info.rate, live=True)

    def _read(self) -> Generator[SourceFrame, None, None]:
        index, due = 0, time.monotonic()
        while True:
            first = index
            for frame in self._opened:
                # A film that could not keep up does not hurry afterwards.
                due = max(due, time.monotonic() - self._period)
                if self._stopped.wait(max(0.0, due - time.monotonic())):
                    return
                yield replace(frame, index=index, time=index * self._period)
                index += 1
                due += self._period
            self.skipped += self._opened.skipped
            self._opened.close()
            if index == first:
                raise SourceError(f"{self._source} holds no frame.")
            self._opened = open_source(self._source)

    def stop(self) -> None:
        """See `Source`."""
        super().stop()
        self._opened.stop()

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._opened.close()
