"""A caller's own frames as a source."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sized
from dataclasses import replace

from edgeunet.errors import UsageError

from ..frames import SourceFrame, SourceInfo
from .arrays import arrays_of_item
from .base import Source


class IterableSource(Source):
    """Frames from any iterable of what `arrays_of` takes: arrays, tensors, paths, `SourceFrame`s.

    Items are taken one at a time, on demand, and their frames fitted to the net by the stream.
    Frames are numbered from 0, except `SourceFrame`s, which have numbers. `close` cannot interrupt
    the caller's iterator, so waits for it end after `close_timeout`. It drops the iterable, but
    does not close a generator that the caller holds.

    Raises:
        UsageError: not an iterable of frames. While reading, as of `arrays_of`.

    Example:
        >>> from edgeunet.runtime.sources import IterableSource
        >>> [item.image.shape for item in IterableSource([frame[:4, :6]])]
        [(4, 6, 3)]
    """

    close_timeout = 1.0

    def __init__(self, frames: Iterable[object]) -> None:
        super().__init__()
        # Iterating over a single image, an array or a tensor, would yield its rows.
        if getattr(frames, "ndim", 4) < 4:
            raise _not_a_source(f"one frame {tuple(getattr(frames, 'shape', ()))}")
        if not isinstance(frames, Iterable):
            raise _not_a_source(repr(frames))
        self.info = SourceInfo(len(frames) if isinstance(frames, Sized) else 0, None)
        self._iterable = frames

    def _read(self) -> Generator[SourceFrame, None, None]:
        index = 0
        for item in self._iterable:
            found = arrays_of_item(item)
            if self.info.frames:  # it was the number of items
                self.info = replace(self.info, frames=self.info.frames + len(found) - 1)
            for array in found:
                if not isinstance(array, SourceFrame):
                    yield SourceFrame(index, "", array)
                else:  # a file numbers its own pages only
                    yield array if array is item else replace(array, index=index)
                index += 1

    def _free(self) -> None:
        self._iterable = ()


def _not_a_source(got: str) -> UsageError:
    return UsageError(
        f"{got} is no source. Pass a path, an address such as v4l2:///dev/video0, or a list of "
        "frames."
    )
