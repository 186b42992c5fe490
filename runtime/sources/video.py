"""Video files."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from edgeunet.errors import MissingDependencyError, SourceError

from ..frames import Frame, SourceFrame, SourceInfo
from .base import Source

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".ts"})


class VideoFile(Source):
    """All frames of a video file, turned upright as the file says.

    Raises:
        SourceError: missing or not a video; while reading, damaged or truncated (with the frame).
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self._path = str(path)
        self.files = (Path(path),)
        self._av = import_av()
        self._container = _opened(self._av, self._path)
        self._stream = self._container.streams.video[0]
        rate = self._stream.average_rate or Fraction(25)
        self.info = SourceInfo(self._stream.frames, rate)

    def _read(self) -> Generator[SourceFrame, None, None]:
        stream = self._stream
        stream.thread_type = "AUTO"
        index, shown, first = 0, 0, None
        # AVI holds no times, and FFmpeg's are out of order if frames depend on later ones.
        timed = self._container.format.name != "avi"
        pixels = Pixels(self._av)
        try:
            for packet in self._container.demux(stream):
                shown += packet.size > 0 and not packet.is_discard
                for frame in packet.decode():
                    time = frame.time if timed else None
                    first = time if first is None else first
                    yield SourceFrame(
                        index,
                        "",
                        upright(pixels(frame), frame),
                        None if time is None else time - first,
                        pixel_aspect(stream, frame),
                    )
                    index += 1
        except self._av.error.FFmpegError as error:
            raise SourceError(
                f"{self._path} is damaged at frame {index}: {error.strerror}."
            ) from error
        if index == 0:
            raise SourceError(f"{self._path} holds no frame.")
        # A truncated file decodes without an error; only the number of frames reveals it. MP4 holds
        # that number, Matroska and transport streams do not. It includes the frames that an edit
        # list hides, which are not read.
        if index < stream.frames and (
            index < shown or _whole_packets(self._av, self._path) < stream.frames
        ):
            raise SourceError(
                f"{self._path} is truncated: it ends after frame {index - 1}; the file announces "
                f"{stream.frames} frames."
            )

    def _free(self) -> None:
        self._container.close()


def import_av() -> Any:
    """Import PyAV, which only videos and cameras need."""
    try:
        return importlib.import_module("av")
    except ImportError:
        raise MissingDependencyError("av", "video") from None


def _opened(av: Any, path: str) -> Any:
    try:
        container = av.open(path)
    except av.error.FFmpegError as error:
        raise SourceError(f"{path} cannot be read as a video: {error.strerror}.") from error
    if not container.streams.video:
        container.close()
        raise SourceError(f"{path} holds no video stream.")
    return container


def _whole_packets(av: Any, path: str) -> int:
    """Number of frames in the file, including those that its edit list hides."""
    with av.open(path, options={"ignore_editlist": "1"}) as container:
        packets = container.demux(container.streams.video[0])
        return sum(packet.size > 0 and not packet.is_corrupt for packet in packets)


class Pixels:
    """Converts frames to 8-bit RGB (H, W, 3).

    It keeps its converter. `VideoFrame.to_ndarray` would make one for each frame, which takes a
    third of the time needed to decode a small frame.
    """

    def __init__(self, av: Any) -> None:
        self._converter = av.video.reformatter.VideoReformatter()

    def __call__(self, frame: Any) -> Frame:
        """Pixels of a frame in any format."""
        picture: Frame = self._converter.reformat(frame, format="rgb24").to_ndarray()
        return picture


def upright(image: Frame, frame: Any) -> Frame:
    """Turn and mirror the picture (H, W, 3) of a PyAV frame as its display matrix says.

    Phones write such a matrix instead of turning the pixels. The matrix (a, b, u; c, d, v; x, y, w)
    maps a pixel (p, q) to (a p + c q + x, b p + d q + y); angles are rounded to right angles.
    Source: libavutil/display.h.
    """
    matrix = _display_matrix(frame)
    if matrix is None:
        return image
    a, b, _, c, d = matrix
    across, down = a, d
    if abs(b) > abs(a):
        image, across, down = image.swapaxes(0, 1), c, b
    turned = image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
    return np.ascontiguousarray(turned)


def pixel_aspect(stream: Any, frame: Any = None) -> Fraction:
    """Width of a pixel divided by its height, in a PyAV stream or in a frame of it turned upright.

    1 if the file does not say.
    """
    aspect = stream.sample_aspect_ratio
    if aspect is None or aspect <= 0:
        return Fraction(1)
    matrix = None if frame is None else _display_matrix(frame)
    turned = matrix is not None and abs(matrix[1]) > abs(matrix[0])
    return Fraction(1, aspect) if turned else Fraction(aspect)


def _display_matrix(frame: Any) -> tuple[int, ...] | None:
    """The first five numbers of a frame's display matrix, None if it has none."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return None if matrix is None else struct.unpack_from("=5i", bytes(matrix))
