"""Where frames come from: an image, a directory or glob of images, a video file."""

from __future__ import annotations

import glob
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.errors import FrameError, MissingDependencyError, SourceError, UsageError
from edgeunet.files import IMAGE_SUFFIXES

from .preprocess import Frame, as_rgb

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".ts"})


@dataclass(frozen=True)
class SourceFrame:
    """One frame: its number from 0, its name (file, or empty), and its pixels, 8-bit RGB."""

    index: int
    name: str
    image: Frame


@dataclass(frozen=True)
class SourceInfo:
    """What is known before decoding: frames (0: unknown) and their rate, None for images."""

    frames: int
    rate: Fraction | None


def describe(source: str | Path) -> SourceInfo:
    """Number of frames and rate of a source; SourceError where it cannot be opened."""
    _refuse_url(source)
    if _is_video(source):
        av = _av()
        with _opened(av, str(source)) as container:
            stream = container.streams.video[0]
            return SourceInfo(stream.frames, stream.average_rate or Fraction(25))
    return SourceInfo(len(_image_files(source)), None)


def open_source(source: str | Path) -> Iterator[SourceFrame]:
    """Frames of a source in order (files by name).

    Raises:
        UsageError: a kind of source that this version does not read.
        SourceError: missing, empty, unreadable or truncated; names the frame it stopped at.
    """
    _refuse_url(source)
    if _is_video(source):
        return _video_frames(str(source))
    return _image_frames(_image_files(source))


def read_image(path: Path) -> Frame:
    """Read an image file as 8-bit RGB; grayscale, RGBA and 16 bit are converted."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise SourceError(f"{path} cannot be read as an image.")
    try:
        return as_rgb(_bgr_to_rgb(pixels))
    except FrameError as error:
        raise SourceError(f"{path}: {error}") from None


def _bgr_to_rgb(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        return pixels[..., 2::-1]  # a view: an image may be large
    return pixels


def _refuse_url(source: str | Path) -> None:
    if "://" in str(source):
        raise UsageError(
            f"{str(source).split('://')[0]}:// is not read by this version. Pass an image, a "
            "directory or glob of images, or a video file."
        )


def _is_video(source: str | Path) -> bool:
    path = Path(source)
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()


def _image_files(source: str | Path) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        files = [item for item in path.iterdir() if item.suffix.lower() in IMAGE_SUFFIXES]
        if not files:
            raise SourceError(f"{path} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    elif path.is_file():
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise SourceError(
                f"{path} is neither an image ({', '.join(sorted(IMAGE_SUFFIXES))}) nor a video "
                f"({', '.join(sorted(VIDEO_SUFFIXES))})."
            )
        files = [path]
    else:
        matches = [Path(name) for name in glob.glob(str(source), recursive=True)]  # noqa: PTH207
        files = [match for match in matches if match.is_file()]
        if not files:
            raise SourceError(f"{source} does not exist, and no file matches it as a glob.")
    return sorted(files)


def _image_frames(files: list[Path]) -> Iterator[SourceFrame]:
    for index, path in enumerate(files):
        yield SourceFrame(index, path.name, read_image(path))


def _video_frames(path: str) -> Iterator[SourceFrame]:
    av = _av()
    with _opened(av, path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        index = 0
        try:
            for frame in container.decode(stream):
                yield SourceFrame(index, "", frame.to_ndarray(format="rgb24"))
                index += 1
        except av.error.FFmpegError as error:
            raise SourceError(f"{path} is damaged at frame {index}: {error.strerror}.") from error
        if index == 0:
            raise SourceError(f"{path} holds no frame.")
        # A file that was cut off decodes to its end without an error: only the count tells. It is
        # known for MP4; Matroska and transport streams do not hold one.
        if index < stream.frames:
            raise SourceError(
                f"{path} is truncated: it ends after frame {index - 1}, {stream.frames} "
                "frames were announced."
            )


def _opened(av: Any, path: str) -> Any:
    if not Path(path).is_file():
        raise SourceError(f"{path} does not exist.")
    try:
        container = av.open(path)
    except av.error.FFmpegError as error:
        raise SourceError(f"{path} cannot be read as a video: {error.strerror}.") from error
    if not container.streams.video:
        container.close()
        raise SourceError(f"{path} holds no video stream.")
    return container


def _av() -> Any:
    """PyAV, which only videos need."""
    try:
        return importlib.import_module("av")
    except ImportError:
        raise MissingDependencyError("av", "video") from None
