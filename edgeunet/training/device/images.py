"""Arrays of several sizes on a device, and the pixels of a batch of crops from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch
from torch import Tensor

Coordinates = tuple[Tensor, Tensor]
"""x and y (B, h, w), FP32, as those of `Warp`."""


@dataclass(frozen=True, eq=False)
class Images:
    """N arrays (H, W, C) of one type, one behind the other.

    pixels: (P, C). starts: (N,), the first pixel of each. sizes: (N, 2), H and W. The last two are
    int64.
    """

    pixels: Tensor
    starts: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, arrays: Sequence[Tensor]) -> Images:
        """Put arrays together on the device where they are."""
        device = arrays[0].device
        lengths = torch.tensor([0, *(each.shape[0] * each.shape[1] for each in arrays)])
        return cls(
            torch.cat([each.flatten(0, 1) for each in arrays]),
            lengths.cumsum(0)[:-1].to(device),
            torch.tensor([each.shape[:2] for each in arrays]).to(device),
        )

    def bilinear(self, image: Tensor, at: Coordinates) -> Tensor:
        """(B, h, w, C), FP32, mirrored at the borders.

        Args:
            image: (B,) indices.
        """
        x, y = at
        left, top = x.floor(), y.floor()
        right, below = (x - left)[..., None], (y - top)[..., None]
        height, width = self._sizes_of(image)
        columns = [mirrored(left.long() + step, width) for step in (0, 1)]
        rows = [mirrored(top.long() + step, height) * width for step in (0, 1)]
        start = self.starts[image][:, None, None]
        upper, lower = (
            self._between(start + row + columns[0], start + row + columns[1], right) for row in rows
        )
        return upper.lerp_(lower, below)

    def _between(self, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
        return self.pixels[first].float().lerp_(self.pixels[second].float(), share)

    def nearest(self, image: Tensor, at: Coordinates, *, outside: int) -> Tensor:
        """(B, h, w, C), and `outside` beyond the borders; a middle goes to the even pixel."""
        column, row = (each.round().long() for each in at)
        height, width = self._sizes_of(image)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place = (row * width + column).where(inside, 0)
        found = self.pixels[self.starts[image][:, None, None] + place]
        return found.where(inside[..., None], outside)

    def outside(self, image: Tensor, at: Coordinates) -> Tensor:
        """(B, h, w, 1) bool, see `Warp.outside`."""
        x, y = at
        height, width = self._sizes_of(image)
        inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
        return ~inside[..., None]

    def _sizes_of(self, image: Tensor) -> tuple[Tensor, Tensor]:
        height, width = self.sizes[image][:, :, None, None].unbind(1)
        return height, width


def mirrored(index: Tensor, length: Tensor | int) -> Tensor:
    """Indices anywhere -> within 0 to length - 1, as cv2.BORDER_REFLECT_101 finds them."""
    period = (torch.as_tensor(length) * 2 - 2).clamp_min(1)
    index = index.remainder(period)
    return torch.minimum(index, period - index)


def coordinates(matrix: Tensor, bend: Tensor, size: tuple[int, int]) -> Coordinates:
    """Source coordinates of crops, see `Geometry.warp`."""
    rows, columns = (torch.arange(side, dtype=torch.float64, device=matrix.device) for side in size)
    by_column, by_row, offset = matrix[..., None, None].unbind(2)
    at = by_column * columns + by_row * rows[:, None] + offset  # (B, 2, h, w)
    found = at.float()
    if len(bend):
        down, across = (_cubic(side, matrix.device) for side in size)
        found = found + (down @ bend.double() @ across.T).float()
    x, y = found.unbind(1)
    return x, y


@cache
def _cubic(length: int, device: torch.device) -> Tensor:
    """Weights (length, 3) by which OpenCV enlarges 3 values to so many, FP64."""
    columns = np.eye(3, dtype=np.float32)[:, :, None].repeat(3, 2)
    enlarged = [cv2.resize(each, (3, length), interpolation=cv2.INTER_CUBIC) for each in columns]
    weights = np.stack([each[:, 0] for each in enlarged], 1)
    return torch.from_numpy(weights).double().to(device)


def inner(at: Coordinates, margin: int) -> Coordinates:
    """Those without `margin` pixels on every side."""
    _, height, width = at[0].shape
    inside = slice(None), slice(margin, height - margin), slice(margin, width - margin)
    return at[0][inside], at[1][inside]


def onto(at: Coordinates, source: Tensor, target: Tensor) -> Coordinates:
    """Those of larger or smaller pictures of the same; sizes (B, 2). See `Warp.onto`."""
    factors = (target.double() / source).float()[:, :, None, None]
    x, y = (
        ((each + 0.5) * factors[:, axis] - 0.5).where(factors[:, axis] != 1, each)
        for each, axis in zip(at, (1, 0), strict=True)
    )
    return x, y
