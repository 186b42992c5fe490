"""Masks as pictures, and pictures as raw bytes for another program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.errors import SourceError
from edgeunet.metrics import Mask

from ..frames import Frame, Segmented
from .base import Sink

Palette = Sequence[tuple[int, int, int]]
"""RGB colour of each class."""


class RawPipe(Sink):
    """Writes frames of one size as raw bytes, row by row, with nothing between them.

    Args:
        render: makes the pixels to write, (H, W) class ids or (H, W, 3) colours, uint8.
    """

    def __init__(
        self, file: BinaryIO, render: Callable[[Segmented], npt.NDArray[np.uint8]]
    ) -> None:
        self._file = file
        self._render = render
        self._shape: tuple[int, ...] | None = None

    def write(self, segmented: Segmented) -> None:
        """Write one frame; SourceError if its size differs from the first."""
        pixels = self._render(segmented)
        if self._shape is None:
            self._shape = pixels.shape
        if pixels.shape != self._shape:
            first, now = (f"{shape[0]}x{shape[1]}" for shape in (self._shape, pixels.shape))
            raise SourceError(
                f"frame size changed from {first} to {now}; a raw pipe cannot signal that. Write "
                "masks to a directory, or NAME.jsonl, instead."
            )
        self._file.write(np.ascontiguousarray(pixels).data)
        self._file.flush()


def mask_pixels(segmented: Segmented) -> npt.NDArray[np.uint8]:
    """Class ids (H, W)."""
    return segmented.mask


def overlay_pixels(palette: Palette) -> Callable[[Segmented], npt.NDArray[np.uint8]]:
    """A function that draws class colours over the frame, (H, W, 3) RGB."""
    return lambda segmented: overlay(segmented.frame.image, segmented.mask, palette)


def overlay(image: Frame, mask: Mask, palette: Palette, *, opacity: float = 0.5) -> Frame:
    """Draw class colours over the frame (H, W, 3); black classes stay transparent."""
    colours = np.zeros((256, 1, 3), np.uint8)
    colours[: len(palette), 0] = palette
    tint = cv2.LUT(cv2.merge([mask, mask, mask]), colours)
    blended = cv2.addWeighted(image, 1 - opacity, tint, opacity, 0)
    visible = (colours[:, 0].any(axis=1) * np.uint8(255)).astype(np.uint8)
    out: Frame = image.copy()
    cv2.copyTo(blended, cv2.LUT(mask, visible), out)
    return out


def colourise(mask: npt.NDArray[np.uint8], palette: Palette) -> Frame:
    """The mask as a picture of class colours (H, W, 3)."""
    colours: Frame = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    colours[255] = 255
    picture: Frame = colours.take(mask, axis=0)
    return picture
