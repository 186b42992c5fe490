"""Frames under the colours of their classes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.data.images import Rgb
from edgeunet.metrics import Mask

Palette = Sequence[tuple[int, int, int]]
"""RGB colour of each class."""


def overlay(image: Rgb, mask: Mask, palette: Palette, *, opacity: float = 0.5) -> Rgb:
    """Draw class colours over the frame (H, W, 3); black classes stay transparent."""
    colours = np.zeros((256, 1, 3), np.uint8)
    colours[: len(palette), 0] = palette
    tint = cv2.LUT(cv2.merge([mask, mask, mask]), colours)
    blended = cv2.addWeighted(image, 1 - opacity, tint, opacity, 0)
    visible = (colours[:, 0].any(axis=1) * np.uint8(255)).astype(np.uint8)
    out: Rgb = image.copy()
    cv2.copyTo(blended, cv2.LUT(mask, visible), out)
    return out


def colourise(mask: npt.NDArray[np.uint8], palette: Palette) -> Rgb:
    """The mask as a picture of class colours (H, W, 3)."""
    picture: Rgb = colour_table(palette).take(mask, axis=0)
    return picture


def colour_table(palette: Palette) -> Rgb:
    """RGB (256, 3) of every id: black beyond the classes, white for 255, which is no class."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    colours[255] = 255
    return colours
