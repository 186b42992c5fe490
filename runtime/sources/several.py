"""Several sources, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from edgeunet.errors import FrameError, SourceError

from ..frames import NOTHING_IGNORED, Ignored, SourceFrame, SourceInfo
from .base import Source

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """One of the sources. name: for its frames that have none. open: opens it."""

    name: str
    open: Callable[[], Source]


class Several(Source):
    """The frames of several sources with an end, in the given order.

    Frames are numbered through. A frame of a video is named after it, with its number from 1, as in
    `clip.mp4#12`. Times go on from one video to the next; frames have no time if images are among
    them. One source is open at a time.

    If a source fails, the others are read, and the error comes behind the last frame.

    Args:
        parts: at least one. files: those that are read. ignored: beside what the parts say.
        timed: whether all parts have times.

    Raises:
        SourceError: while reading, as said.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        files: Sequence[Path] = (),
        ignored: Ignored = NOTHING_IGNORED,
        timed: bool = True,
    ) -> None:
        super().__init__()
        self.ignored = ignored
        self.files = files
        self._parts = parts
        self._timed = timed
        self._failures: list[str] = []
        # The first is opened at once: its rate is needed before its frames are.
        self._opened = self._try_to_open(parts[0])
        rate = self._opened.info.rate if self._opened is not None else None
        self.info = SourceInfo(0, rate)

    def _try_to_open(self, part: Part) -> Source | None:
        try:
            return part.open()
        except SourceError as error:
            self._fail(error)
            return None

    def _read(self) -> Generator[SourceFrame, None, None]:
        index, begins = 0, 0.0
        for number, part in enumerate(self._parts):
            source = self._opened if number == 0 else self._try_to_open(part)
            if source is None:
                continue
            self._opened = source
            first, last = index, begins
            before = self.skipped
            try:
                for frame in source:
                    index = first + frame.index
                    time = None if frame.time is None or not self._timed else begins + frame.time
                    last = time or last
                    name = frame.name or f"{part.name}#{frame.index + 1}"
                    yield replace(frame, index=index, name=name, time=time)
                    self.skipped = before + source.skipped
                    if self._stopped.is_set():
                        return
            except SourceError as error:
                self._fail(error)
            self.skipped = before + source.skipped
            self.damaged += source.damaged
            self.ignored += source.ignored
            source.close()
            index += 1
            begins = last + float(1 / (source.info.rate or Fraction(25)))
        if self._failures:
            count = len(self._failures)
            raise SourceError(
                f"{count} of {len(self._parts)} sources failed; the others are done. The first: "
                f"{self._failures[0]}"
            )

    def _fail(self, error: SourceError) -> None:
        _log.warning("%s", error)
        self._failures.append(str(error))

    def reject(self, error: FrameError) -> None:
        """See `Source`."""
        if self._opened is not None:
            self._opened.reject(error)

    def stop(self) -> None:
        """See `Source`."""
        super().stop()
        if self._opened is not None:
            self._opened.stop()

    def _free(self) -> None:
        if self._opened is not None:
            self._opened.close()
