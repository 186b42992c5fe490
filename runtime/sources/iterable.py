"""A caller's own frames as a source."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sized
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgeunet.errors import UsageError

from ..frames import SourceFrame, SourceInfo, as_rgb
from .base import Source


class IterableSource(Source):
    """Frames from any iterable of arrays (H, W, 3) or `SourceFrame`s.

    Frames are taken one at a time, on demand, and converted by `as_rgb`. Arrays are numbered from
    0. `close` cannot interrupt the caller's iterator, so waits for it end after `close_timeout`. It
    drops the iterable, but does not close a generator that the caller still holds.

    Raises:
        UsageError: not an iterable of frames, or (while reading) an item is not a frame.
        FrameError: while reading, a frame cannot be converted.

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
        return replace(frame, image=as_rgb(frame.image))
    if isinstance(frame, np.ndarray):
        return SourceFrame(index, "", as_rgb(frame))
    raise UsageError(
        f"expected frames as RGB arrays (H, W, 3) or SourceFrames, got a {type(frame).__name__}."
    )


def _not_a_source(got: str) -> UsageError:
    return UsageError(
        f"{got} is no source. Pass a path, an address such as v4l2:///dev/video0, or frames."
    )
