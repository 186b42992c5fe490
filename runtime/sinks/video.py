"""H.264 video files, never left half-written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from edgeunet.errors import (
    MissingDependencyError,
    OutputError,
    OutputExistsError,
    SourceError,
    UsageError,
)

from ..frames import Frame, Segmented
from ..pipeline.stopping import Closing
from .base import Sink
from .overlay import Palette, overlay

# Ticks per second, as in RTP: at any usual rate a frame lasts a whole number of ticks.
_CLOCK = 90_000
# Largest number of ticks between two frames. MP4 cannot store 2**31, which is 6.6 hours.
_LONGEST = 3600 * _CLOCK


class OverlayVideo(Sink):
    """Writes an H.264 MP4 of the frames under half-transparent class colours; see `VideoWriter`."""

    def __init__(
        self, path: Path, *, rate: Fraction, palette: Palette, force: bool = False
    ) -> None:
        self.palette = palette
        self._video = VideoWriter(path, rate=rate, force=force)

    def write(self, segmented: Segmented) -> None:
        """Encode one frame; SourceError if its size differs from the first."""
        picture = overlay(segmented.frame.image, segmented.mask, self.palette)
        self._video.write(picture, time=segmented.frame.time)

    def close(self) -> None:
        """Finish the file and move it to its name."""
        self._video.close()


class VideoWriter(Closing):
    """Writes an H.264 MP4 of frames of one size.

    H.264 stores colour at half the resolution, so a side of odd length is padded by one pixel that
    repeats its edge. The file appears under its name when closed, and only if it holds a frame. A
    pause of more than an hour is cut to an hour. If time stands still or goes back, the next frame
    follows after the duration of one frame.

    Args:
        rate: frames per second, for frames without a time.
    """

    def __init__(self, path: Path, *, rate: Fraction, force: bool = False) -> None:
        try:
            import av
        except ImportError:
            raise MissingDependencyError("av", "video") from None
        if path.is_dir():
            raise UsageError(f"{path} is a directory; expected a file for the video.")
        if path.exists() and not force:
            raise OutputExistsError(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.rate = path, rate
        self._errors = av.error.FFmpegError
        self._frame_of = av.VideoFrame.from_ndarray
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".mp4")
        os.close(handle)
        self._temporary = Path(name)
        with ExitStack() as stack, self._encoding_errors():
            stack.callback(self._temporary.unlink, missing_ok=True)
            self._container = stack.enter_context(av.open(name, "w", format="mp4"))
            self._stack = stack.pop_all()
        self._stream: Any = None
        self._size = (0, 0)
        self._written = 0
        self._ticks = -1  # of the last frame
        self._offset = 0  # ticks added to those of the frames' clock

    def write(self, picture: Frame, *, time: float | None = None) -> None:
        """Encode one frame (H, W, 3).

        Args:
            time: seconds since the first frame; None: derived from its number and the rate.

        Raises:
            SourceError: its size differs from the first. OutputError: the encoder rejects it.
        """
        height, width = picture.shape[:2]
        if self._stream is None:
            self._start(height, width)
        if (height, width) != self._size:
            raise SourceError(
                f"frame size changed from {self._size[0]}x{self._size[1]} to {height}x{width}; a "
                "video has one size. Write masks to a directory instead."
            )
        if height % 2 or width % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._frame_of(picture, format="rgb24")
        ticks = round((self._written / self.rate if time is None else time) * _CLOCK)
        duration = round(_CLOCK / self.rate)
        # Times go back in files joined with `cat`, and must not in the output.
        if ticks + self._offset <= self._ticks:
            self._offset = self._ticks + duration - ticks
        self._offset = min(self._offset, self._ticks + _LONGEST - ticks)
        self._ticks = frame.pts = ticks + self._offset
        frame.time_base = Fraction(1, _CLOCK)
        frame.duration = duration
        self._written += 1
        with self._encoding_errors():
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Flush the encoder and move the file to its name; a second call does nothing."""
        stream, self._stream = self._stream, None
        with self._encoding_errors(), self._stack:
            if stream is not None:
                self._container.mux(stream.encode())
                self._container.close()
                self._temporary.chmod(0o644)
                self._temporary.replace(self.path)

    @contextmanager
    def _encoding_errors(self) -> Iterator[None]:
        """Turn FFmpeg's errors into OutputError, except system errors such as a full disk."""
        try:
            yield
        except self._errors as error:
            if isinstance(error, OSError):
                raise
            raise OutputError(
                f"{self.path} cannot be encoded: {error}. Write masks to a directory instead."
            ) from error

    def _start(self, height: int, width: int) -> None:
        stream = self._container.add_stream("libx264", rate=self.rate)
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        stream.options = {"crf": "20", "preset": "veryfast"}
        self._stream, self._size = stream, (height, width)
