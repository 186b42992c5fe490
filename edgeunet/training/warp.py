"""Where every pixel of a crop comes from, and how image, mask and weights are read there."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..data.datasets import Image
from ..metrics import IGNORE, Mask

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Warp:
    """Source coordinates of a crop: x and y (h, w), pixels, 0 = centre of the first one."""

    x: Floats
    y: Floats

    def inner(self, margin: int) -> Warp:
        """The same without `margin` pixels on every side."""
        if not margin:
            return self
        inside = (slice(margin, -margin), slice(margin, -margin))
        return Warp(self.x[inside], self.y[inside])

    def outside(self, size: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        """Whether pixels (h, w) come from beyond the borders of a source of the given (H, W)."""
        height, width = size
        inside = (self.x >= -0.5) & (self.x < width - 0.5) & (self.y >= -0.5)
        return ~(inside & (self.y < height - 0.5))

    def image(self, image: Image) -> Image:
        """(H, W, C) -> (h, w, C), bilinear, mirrored at the borders."""
        warped = cv2.remap(
            image, self.x, self.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        return np.asarray(warped, np.uint8).reshape(*self.x.shape, image.shape[2])

    def mask(self, mask: Mask) -> Mask:
        """Class ids (H, W) -> (h, w), nearest, ignored outside."""
        warped = cv2.remap(mask, self.x, self.y, cv2.INTER_NEAREST, borderValue=(float(IGNORE),))
        return np.asarray(warped, np.uint8)

    def weights(self, weights: Floats) -> Floats:
        """Weights (H, W) -> (h, w), bilinear, mirrored at the borders."""
        warped = cv2.remap(
            weights, self.x, self.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        return np.asarray(warped, np.float32)


def affine(matrix: npt.NDArray[np.float64], height: int, width: int) -> Warp:
    """Warp to a crop of the given size; `matrix` (2, 3) leads from its pixels to the source's."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    x, y = np.einsum("ij,jhw->ihw", matrix, np.stack([columns, rows, np.ones_like(rows)]))
    return Warp(x.astype(np.float32), y.astype(np.float32))


def elastic_displacement(
    height: int, width: int, *, sigma: float, rng: np.random.Generator
) -> Floats:
    """Smooth random displacement (2, height, width), pixels.

    Ronneberger et al., "U-Net" (arXiv 1505.04597), section 3.1: Gaussian vectors of standard
    deviation `sigma` on a coarse 3x3 grid, between them bicubic. The idea is that of Simard et
    al., ICDAR 2003.
    """
    grid = rng.normal(0, sigma, (2, 3, 3)).astype(np.float32)
    planes = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_CUBIC) for plane in grid]
    return np.stack(planes).astype(np.float32)
