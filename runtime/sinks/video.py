"""Video files, never left half-written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeunet.errors import MissingDependencyError, OutputError, SourceError, UsageError
from edgeunet.files import check_file, locked, temporary_file

from ..frames import Frame, Segmented
from ..pipeline.stopping import Closing
from .base import Sink
from .overlay import Palette, overlay


@dataclass(frozen=True)
class Container:
    """How a kind of video file is written.

    name, codec: FFmpeg's names. options: the codec's. clock: ticks per second. shortest: ticks that
    a frame lasts at least. pixels: the codec's pixel format. square: it cannot tell that pixels are
    not square.
    """

    name: str
    codec: str
    options: dict[str, str]
    # As in RTP: at any usual rate a frame lasts a whole number of ticks.
    clock: int = 90_000
    shortest: int = 1
    pixels: str = "yuv420p"
    square: bool = False

    @property
    def halves_colour(self) -> bool:
        """Whether colour has half the resolution, so that sides must be even."""
        return self.pixels == "yuv420p"


_H264 = ("libx264", {"crf": "20", "preset": "veryfast"})
_VP9 = ("libvpx-vp9", {"crf": "24", "deadline": "realtime", "cpu-used": "7", "row-mt": "1"})

CONTAINERS = {
    ".mp4": Container("mp4", *_H264),
    ".mov": Container("mov", *_H264),
    ".mkv": Container("matroska", *_H264),
    # FFmpeg takes the aspect from the stream, which PyAV cannot set, and VP9 stores none.
    ".webm": Container("webm", *_VP9, square=True),
    # Browsers show frames of less than 1/50 s for 1/10 s.
    ".gif": Container("gif", "gif", {}, clock=100, shortest=2, pixels="pal8", square=True),
}
"""Kinds of video files by suffix."""

# Seconds between two frames at most. MP4 cannot store 2**31 ticks, which is 6.6 hours.
_LONGEST = 3600


class OverlayVideo(Sink):
    """Writes a video of the frames under half-transparent class colours; see `VideoWriter`."""

    def __init__(
        self, path: Path, *, rate: Fraction, palette: Palette, force: bool = False
    ) -> None:
        self.palette = palette
        self._video = VideoWriter(path, rate=rate, force=force)

    def write(self, segmented: Segmented) -> None:
        """Encode one frame; SourceError if its size or pixel aspect differs from the first."""
        frame = segmented.frame
        picture = overlay(frame.picture, segmented.mask, self.palette)
        self._video.write(picture, time=frame.time, pixel_aspect=frame.pixel_aspect)

    def close(self) -> None:
        """Finish the file and move it to its name."""
        self._video.close()


class VideoWriter(Closing):
    """Writes a video of frames of one size: H.264 in .mp4, .mov and .mkv, VP9 in .webm, or .gif.

    H.264 and VP9 store colour at half the resolution, so a side of odd length is padded by one
    pixel that repeats its edge. .webm and .gif have square pixels, to which others are stretched.
    GIF has 256 colours for each frame, chosen for it, and at most 50 frames a second; faster videos
    play slower. The file appears under its name when
    closed, and only if it holds a frame. A pause of more than an hour is cut to an hour. If time
    stands still or goes back, the next frame follows after the duration of one frame.

    Args:
        rate: frames per second, for frames without a time.

    Raises:
        UsageError: another suffix, or a directory is in its place. OutputExistsError: the file
            exists and `force` is false. OutputError: another run writes the file, or this FFmpeg
            cannot encode it.
    """

    def __init__(self, path: Path, *, rate: Fraction, force: bool = False) -> None:
        try:
            import av
        except ImportError:
            raise MissingDependencyError("av", "video") from None
        suffix = path.suffix.lower()
        if suffix not in CONTAINERS:
            raise UsageError(f"{path} is no video; expected one of {', '.join(CONTAINERS)}.")
        check_file(path, force=force)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.rate, self._kind = path, rate, CONTAINERS[suffix]
        self._errors = av.error.FFmpegError
        self._frame_of: Any = av.VideoFrame.from_ndarray
        with ExitStack() as stack, self._encoding_errors():
            stack.enter_context(locked(path))
            self._temporary = stack.enter_context(temporary_file(path.parent))
            name = f"file:{self._temporary.path}"
            self._container = stack.enter_context(av.open(name, "w", format=self._kind.name))
            self._stack = stack.pop_all()
        self._stream: Any = None
        self._size = (0, 0)  # height and width in the file
        self._shape: tuple[int, int, Fraction] | None = None  # height, width, pixel aspect
        self._written = 0
        self._ticks = -self._kind.shortest  # of the last frame
        self._offset = 0  # ticks added to those of the frames' clock

    def write(
        self, picture: Frame, *, time: float | None = None, pixel_aspect: Fraction = Fraction(1)
    ) -> None:
        """Encode one frame (H, W, 3).

        Args:
            time: seconds since the first frame; None: derived from its number and the rate.
            pixel_aspect: width of a pixel divided by its height.

        Raises:
            SourceError: its size or pixel aspect differs from the first. OutputError: the encoder
                rejects it.
        """
        height, width = picture.shape[:2]
        shape = (height, width, pixel_aspect)
        if self._shape is None:
            self._start(*shape)
        if shape != self._shape:
            before, now = map(_described, (self._shape, shape))
            raise SourceError(
                f"frame size changed from {before} to {now}; a video has one size. Write masks to "
                "a directory instead."
            )
        picture = self._fitted(picture)
        if self._kind.pixels == "pal8":
            frame = self._frame_of(in_256_colours(picture), format="pal8")
        else:
            frame = self._frame_of(picture, format="rgb24")
        frame.pts = self._next_ticks(time)
        frame.time_base = Fraction(1, self._kind.clock)
        frame.duration = self._duration
        with self._encoding_errors():
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Flush the encoder and move the file to its name; a second call does nothing."""
        stream, self._stream = self._stream, None
        with self._encoding_errors(), self._stack:
            if stream is not None:
                self._container.mux(stream.encode())
                self._container.close()
                self._temporary.move_to(self.path)

    @property
    def _duration(self) -> int:
        """Ticks that a frame lasts by the rate."""
        return max(self._kind.shortest, round(self._kind.clock / self.rate))

    def _next_ticks(self, time: float | None) -> int:
        """When the next frame is shown, given its time by the frames' clock."""
        clock, before = self._kind.clock, self._ticks
        ticks = round((self._written / self.rate if time is None else time) * clock)
        # Times go back in files joined with `cat`, and must not in the output.
        if ticks + self._offset < before + self._kind.shortest:
            self._offset = before + self._duration - ticks
        self._offset = min(self._offset, before + _LONGEST * clock - ticks)
        self._written += 1
        self._ticks = ticks + self._offset
        return self._ticks

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

    def _start(self, height: int, width: int, pixel_aspect: Fraction) -> None:
        kind, self._shape = self._kind, (height, width, pixel_aspect)
        if kind.square:
            if pixel_aspect > 1:
                width = round(width * pixel_aspect)
            else:
                height = round(height / pixel_aspect)
        if kind.halves_colour:
            height, width = height + height % 2, width + width % 2
        with self._encoding_errors():
            stream: Any = self._container.add_stream(kind.codec, rate=self.rate)
        stream.height, stream.width = self._size = height, width
        stream.pix_fmt = kind.pixels
        stream.codec_context.time_base = Fraction(1, kind.clock)
        if not kind.square:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        stream.options = kind.options
        self._stream = stream

    def _fitted(self, picture: Frame) -> Frame:
        """A picture (H, W, 3) with the size of the file, stretched or padded."""
        assert self._shape is not None
        if self._kind.square and self._shape[2] != 1:
            picture = cv2.resize(picture, self._size[::-1])
        below, right = self._size[0] - picture.shape[0], self._size[1] - picture.shape[1]
        if below or right:
            picture = np.pad(picture, ((0, below), (0, right), (0, 0)), mode="edge")
        return picture


def in_256_colours(picture: Frame) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Reduce an RGB picture (H, W, 3) to 256 colours chosen for it.

    The errors are scattered, so that shades do not turn into bands.

    Returns:
        Indices (H, W), and the colours (256, 4) as ARGB.
    """
    opened = Image.fromarray(picture)
    # A quarter of the size has the same colours.
    small = opened.reduce(4).quantize(256, Image.Quantize.FASTOCTREE)
    reduced = opened.quantize(palette=small, dither=Image.Dither.FLOYDSTEINBERG)
    colours = np.full((256, 4), 255, np.uint8)
    rgb = np.asarray(reduced.getpalette("RGB"), np.uint8).reshape(-1, 3)
    colours[: len(rgb), 1:] = rgb
    return np.asarray(reduced), colours


def _described(shape: tuple[int, int, Fraction] | None) -> str:
    """Height and width, and the pixel aspect unless pixels are square."""
    assert shape is not None
    height, width, aspect = shape
    return f"{height}x{width}" + ("" if aspect == 1 else f" (pixel aspect {aspect})")
