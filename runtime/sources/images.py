"""Image files: one, a directory, or a glob."""

from __future__ import annotations

import glob
from collections.abc import Generator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.errors import FrameError, SourceError
from edgeunet.files import IMAGE_SUFFIXES
from edgeunet.jpeg import is_cut_off

from ..frames import Frame, SourceFrame, SourceInfo, as_rgb
from .base import Source
from .redaction import redacted
from .video import VIDEO_SUFFIXES

# IMREAD_UNCHANGED would leave a picture lying as EXIF says that its camera was held.
_UPRIGHT = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH


class Images(Source):
    """Image files by name.

    Raises:
        SourceError: none there, or (while reading) one that is no image.
    """

    def __init__(self, source: str | Path) -> None:
        super().__init__()
        self.files = _image_files(source)
        self.info = SourceInfo(len(self.files), None)

    def _read(self) -> Generator[SourceFrame, None, None]:
        for index, path in enumerate(self.files):
            yield SourceFrame(index, path.name, read_image(path))


def read_image(path: Path) -> Frame:
    """Read an image file as 8-bit RGB, upright; grayscale, RGBA and 16 bit are converted.

    Raises:
        SourceError: no image, one of another type such as floats, or one that was cut off.
    """
    try:
        if is_cut_off(path):
            raise SourceError(f"{path} is truncated: it ends within the image.")
        pixels = cv2.imread(str(path), _UPRIGHT)
        if pixels is None:  # of floats, for one, to say so
            pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}.") from None
    except cv2.error as error:
        raise SourceError(
            f"{path} cannot be read as an image: OpenCV says {error.err}. It takes 2^30 pixels; "
            "the environment variable OPENCV_IO_MAX_IMAGE_PIXELS allows more."
        ) from None
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
    elif path.is_char_device():
        raise SourceError(f"{path} is a device. A camera is v4l2://{path.absolute()}.")
    else:
        matches = [Path(name) for name in glob.glob(str(source), recursive=True)]  # noqa: PTH207
        files = [match for match in matches if match.is_file()]
        if not files:
            raise SourceError(
                f"{redacted(source)} does not exist, and no file matches it as a glob."
                + ("" if path.suffix else " A camera is v4l2:///dev/video0 or csi://0.")
            )
    return sorted(files)
