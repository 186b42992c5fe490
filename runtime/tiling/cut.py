"""Tiles out of an image, mirrored where they reach over its edge."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..frames import Frame


def cut(frame: Frame, top: int, left: int, size: tuple[int, int]) -> Frame:
    """The tile (height, width, 3) of that `size` whose upper left pixel is (top, left) of a frame.

    A view where the tile lies inside the frame, of any size and position elsewhere.
    """
    height, width = frame.shape[:2]
    inside = min(top, left) >= 0 and top + size[0] <= height and left + size[1] <= width
    if inside:
        return frame[top : top + size[0], left : left + size[1]]
    return frame[np.ix_(mirrored(top, size[0], height), mirrored(left, size[1], width))]


def mirrored(start: int, count: int, length: int) -> npt.NDArray[np.intp]:
    """Indices of `count` pixels from `start` on, of an axis that is mirrored at its end pixels.

    The end pixels are not repeated: of an axis of 4 they are … 2 1 0 1 2 3 2 1 0 1 ….
    """
    period = max(2 * (length - 1), 1)
    indices = np.arange(start, start + count) % period
    return np.minimum(indices, period - indices) if length > 1 else indices
