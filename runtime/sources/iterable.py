"""A caller's own frames as a source."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sized

import numpy as np
import numpy.typing as npt

from edgeunet.errors import UsageError

from ..frames import SourceFrame, SourceInfo
from .base import Source


class IterableSource(Source):
    """Frames from any iterable of arrays (H, W, C) or `SourceFrame`s.

    Frames are taken one at a time, on demand, and fitted to the net by the stream. Arrays are
    numbered from 0. `close` cannot interrupt the caller's iterator, so waits for it end after
    `close_timeout`. It drops the iterable, but does not close a generator that the caller holds.

    Raises:
        UsageError: not an iterable of frames, or (while reading) an item is not a frame.

    Example:
        >>> from edgeunet.runtime.sources import IterableSource
        >>> [item.image.shape for item in IterableSource([frame[:4, :6]])]
        [(4, 6, 3)]
    """

    close_timeout = 1.0

    def __init__(self, frames: Iterable[SourceFrame | npt.NDArray[np.generic]]) -> None:
        super().__init__()
        # Iterating over a single image would yield its rows.
        if isinstance(frames, np.ndarray) and frames.ndim < 4:
            raise _not_a_source(f"an array {frames.shape}")
        if not isinstance(frames, Iterable):
            raise _not_a_source(repr(frames))
        self.info = SourceInfo(len(frames) if isinstance(frames, Sized) else 0, None)
        self._iterable = frames

    def _read(self) -> Generator[SourceFrame, None, None]:
        for index, frame in enumerate(self._iterable):
            yield _as_source_frame(index, frame)

    def _free(self) -> None:
        self._iterable = ()


def _as_source_frame(index: int, frame: SourceFrame | npt.NDArray[np.generic]) -> SourceFrame:
    if isinstance(frame, SourceFrame):
        return frame
    if isinstance(frame, np.ndarray):
        return SourceFrame(index, "", frame)
    raise UsageError(
        f"expected frames as arrays (H, W, C) or SourceFrames, got a {type(frame).__name__}."
    )


def _not_a_source(got: str) -> UsageError:
    return UsageError(
        f"{got} is no source. Pass a path, an address such as v4l2:///dev/video0, or frames."
    )
