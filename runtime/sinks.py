"""Where masks go: PNG files of class ids, an overlay video, or nowhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.errors import OutputExistsError, UsageError
from edgeunet.files import write_bytes
from edgeunet.metrics import Mask

from .closing import Closing
from .preprocess import Frame
from .video import VideoWriter

Palette = Sequence[tuple[int, int, int]]


class Sink(Closing, ABC):
    """Takes frames and masks in order; a context manager that finishes what was written."""

    @abstractmethod
    def write(self, image: Frame, mask: Mask) -> None:
        """Take one frame (H, W, 3) and its class ids (H, W)."""


class NullSink(Sink):
    """Drops everything: for `-o -` and for measuring."""

    def write(self, image: Frame, mask: Mask) -> None:
        """Drop the frame."""


class MaskDirectory(Sink):
    """Class ids as `000000.png`, `000001.png`, …; each file appears whole or not at all."""

    def __init__(self, path: Path, *, force: bool = False) -> None:
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; a directory for the masks was wanted.")
        if path.exists() and any(path.iterdir()):
            if not force:
                raise OutputExistsError(path)
            # Masks of an earlier, longer run must not pass for ones of this run.
            for old in path.glob("*.png"):
                if old.stem.isdecimal():
                    old.unlink()
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.written = 0

    def write(self, image: Frame, mask: Mask) -> None:
        """Write the next mask."""
        encoded = cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
        write_bytes(self.path / f"{self.written:06d}.png", encoded.tobytes(), sync=False)
        self.written += 1


class OverlayVideo(Sink):
    """H.264 MP4 of the frames under half-transparent class colours; see `VideoWriter`."""

    def __init__(
        self, path: Path, *, rate: Fraction, palette: Palette, force: bool = False
    ) -> None:
        self.palette = palette
        self._video = VideoWriter(path, rate=rate, force=force)

    def write(self, image: Frame, mask: Mask) -> None:
        """Encode one frame; SourceError where its size differs from the first one's."""
        self._video.write(overlay(image, mask, self.palette))

    def close(self) -> None:
        """Finish the file and move it to its name."""
        self._video.close()


def open_sink(output: str, *, rate: Fraction | None, palette: Palette, force: bool = False) -> Sink:
    """Sink for `-` (none), `NAME.mp4` (overlay) or a directory (masks)."""
    if output == "-":
        return NullSink()
    path = Path(output)
    if path.suffix.lower() == ".mp4":
        return OverlayVideo(path, rate=rate or Fraction(10), palette=palette, force=force)
    if path.suffix:
        raise UsageError(f"{output}: an output is NAME.mp4 (overlay), a directory (masks) or -.")
    return MaskDirectory(path, force=force)


def overlay(image: Frame, mask: Mask, palette: Palette, *, opacity: float = 0.5) -> Frame:
    """Colour the frame (H, W, 3) by class; black classes leave it as it is."""
    colours = np.zeros((256, 1, 3), np.uint8)
    colours[: len(palette), 0] = palette
    tint = cv2.LUT(cv2.merge([mask, mask, mask]), colours)
    blended = cv2.addWeighted(image, 1 - opacity, tint, opacity, 0)
    visible = (colours[:, 0].any(axis=1) * np.uint8(255)).astype(np.uint8)
    out: Frame = image.copy()
    cv2.copyTo(blended, cv2.LUT(mask, visible), out)
    return out


def colourise(mask: npt.NDArray[np.uint8], palette: Palette) -> Frame:
    """Class colours alone (H, W, 3): the mask as a picture."""
    colours: Frame = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    colours[255] = 255
    picture: Frame = colours.take(mask, axis=0)
    return picture
