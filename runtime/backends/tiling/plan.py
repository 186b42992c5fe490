"""Where the tiles of an image lie, and which pixels each decides on. One axis at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...frames import Frame
from ...options import Tiling

# Deepest stride of the six nets. If an image is shifted by it, the result shifts along, unchanged.
_STRIDE = 32


class Span(NamedTuple):
    """One tile along one axis: it begins at pixel `start` and decides on pixels first..stop - 1.

    Pixels of the tile that lie outside the image are mirrored.
    """

    start: int
    first: int
    stop: int


def spans(length: int, tile: int, tiling: Tiling) -> list[Span]:
    """Tiles of side `tile` along an axis of `length` pixels, in order.

    The last tile is moved inward, to the next multiple of 32. An image smaller than a tile lies in
    the middle of one. With "gaussian" a tile decides on all of its pixels, with "valid" on those
    that are nearer to the border in every other tile.
    """
    grid = _grid(tile)
    step = max(grid, int((1 - tiling.overlap) * tile) // grid * grid)
    margin = -(-(tile - step) // (2 * grid)) * grid if tiling.blend == "valid" else 0
    excess = length + 2 * margin - tile  # pixels that one tile does not cover
    if excess <= 0:
        return [Span(excess // 2 - margin, 0, length)]
    starts = [*range(-margin, excess - margin, step), -(-excess // grid) * grid - margin]
    if tiling.blend == "gaussian":
        return [Span(start, max(start, 0), min(start + tile, length)) for start in starts]
    # If the image is smaller than the margin, tiles meet outside of it.
    middles = [min(max((one + other + tile) // 2, 0), length) for one, other in pairwise(starts)]
    own = map(Span, starts, [0, *middles], [*middles, length])
    return [span for span in own if span.first < span.stop]


def panels(columns: Sequence[Span], width: int) -> Iterator[list[Span]]:
    """The spans of a whole axis, cut into panels of at most `width` pixels.

    A tile that crosses the end of a panel is in both, with the pixels that it decides on in each.
    """
    length = columns[-1].stop
    for left in range(0, length, width):
        right = min(left + width, length)
        clipped = (
            Span(column.start, max(column.first, left), min(column.stop, right))
            for column in columns
        )
        yield [column for column in clipped if column.first < column.stop]


def _grid(tile: int) -> int:
    """Grid of the tiles' starts: 32, for small tiles the power of two up to a quarter of a tile."""
    return min(_STRIDE, 1 << max((tile // 4).bit_length() - 1, 0))


def cut(frame: Frame, top: int, left: int, size: tuple[int, int]) -> Frame:
    """The tile (height, width, C) of `size` whose upper left pixel is (top, left) of a frame.

    A view if the tile lies inside the frame. Otherwise a copy with mirrored pixels.
    """
    height, width = frame.shape[:2]
    inside = min(top, left) >= 0 and top + size[0] <= height and left + size[1] <= width
    if inside:
        return frame[top : top + size[0], left : left + size[1]]
    return frame[np.ix_(mirrored(top, size[0], height), mirrored(left, size[1], width))]


def mirrored(start: int, count: int, length: int) -> npt.NDArray[np.intp]:
    """Indices of `count` pixels from `start` on, of an axis that is mirrored at its end pixels.

    The end pixels are not repeated: for an axis of 4, indices are … 2 1 0 1 2 3 2 1 0 1 ….
    """
    period = max(2 * (length - 1), 1)
    indices = np.arange(start, start + count) % period
    return np.minimum(indices, period - indices) if length > 1 else indices
