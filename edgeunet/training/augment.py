"""Random geometry for training crops.

`Augmentation` holds the ranges and draws a `Geometry` from them: a few numbers. `Warp` applies it
to image, mask and weights alike; on a GPU `device.images` does. `photometry` changes the light.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from ..data.fit import Frame
from ..metrics import IGNORE, Mask

Floats = npt.NDArray[np.float32]
Flip = Literal["none", "horizontal", "both"]
Point = tuple[float, float]
"""Row and column, measured from the image's corner, pixels."""


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

    def onto(self, size: tuple[int, ...], source: tuple[int, ...]) -> Warp:
        """The same crop of a larger or smaller picture of what it is a crop of.

        Args:
            size: (H, W) of that picture. source: (H, W) that the coordinates belong to now.
        """
        if size == source:
            return self
        rows, columns = (np.float32(to / of) for to, of in zip(size, source, strict=True))
        half = np.float32(0.5)
        return Warp((self.x + half) * columns - half, (self.y + half) * rows - half)

    def outside(self, size: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        """Whether pixels (h, w) come from beyond the borders of a source of the given (H, W)."""
        height, width = size
        inside = (self.x >= -0.5) & (self.x < width - 0.5) & (self.y >= -0.5)
        return ~(inside & (self.y < height - 0.5))

    def image(self, image: Frame) -> Frame:
        """(H, W, C) -> (h, w, C) of the same depth, bilinear, mirrored at the borders."""
        warped = np.asarray(self._bilinear(image), image.dtype)
        return warped.reshape(*self.x.shape, image.shape[2])

    def mask(self, mask: Mask) -> Mask:
        """Class ids (H, W) -> (h, w), nearest; pixels outside the source are ignored."""
        warped = cv2.remap(mask, self.x, self.y, cv2.INTER_NEAREST, borderValue=(float(IGNORE),))
        return np.asarray(warped, np.uint8)

    def weights(self, weights: Floats) -> Floats:
        """Weights (H, W) -> (h, w), bilinear, mirrored at the borders."""
        return np.asarray(self._bilinear(weights), np.float32)

    def _bilinear(self, source: Frame | Floats) -> npt.ArrayLike:
        return cv2.remap(
            source, self.x, self.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the pixels of a crop come from.

    matrix: (2, 3), FP64, from column, row and 1 in the crop to x and y in the source. bend: (2, 3,
    3), FP32, vectors of the elastic displacement in pixels of the source, see `elastic_vectors`;
    None for none.
    """

    matrix: npt.NDArray[np.float64]
    bend: Floats | None = None

    def warp(self, height: int, width: int) -> Warp:
        """The source coordinates of a crop of the given size."""
        warp = affine(self.matrix, height, width)
        if self.bend is None:
            return warp
        x, y = displacement(self.bend, height, width)
        return Warp(warp.x + x, warp.y + y)


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes.

    crop: (height, width) of a crop. margin: pixels of context around it.
    scale: smallest and largest zoom, drawn log-uniformly.
    rotation: largest angle, in degrees.
    elastic: sigma of the elastic displacements, in pixels of the crop; 0 for none.
    flip: how half of the crops are mirrored; both: a half sideways and, independently, a half
    upside down.
    """

    crop: tuple[int, int]
    scale: tuple[float, float]
    margin: int = 0
    rotation: float = 4.0
    elastic: float = 0.0
    flip: Flip = "horizontal"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a crop with its margin."""
        height, width = (side + 2 * self.margin for side in self.crop)
        return height, width

    def warp(
        self, size: tuple[int, ...], rng: np.random.Generator, *, point: Point | None = None
    ) -> Warp:
        """Draw a crop and find its source coordinates; see `draw`."""
        return self.draw(size, rng, point=point).warp(*self.size)

    def draw(
        self, size: tuple[int, ...], rng: np.random.Generator, *, point: Point | None = None
    ) -> Geometry:
        """Draw a crop with its margin from an image of the given (H, W).

        Args:
            point: a point that the crop must contain.
        """
        height, width = self.size
        zoom = float(np.exp(rng.uniform(*np.log(self.scale))))
        across = -1.0 if rng.random() < 0.5 and self.flip != "none" else 1.0
        down = -1.0 if self.flip == "both" and rng.random() < 0.5 else 1.0
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        reach = [out / zoom / 2 for out in self.crop]  # from the centre to a side, source pixels
        centre = [
            _centre(side, half, None if point is None else point[axis], rng)
            for axis, (side, half) in enumerate(zip(size, reach, strict=True))
        ]
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        turn *= [[across], [down]]
        # Centre and crop are measured from corners; pixel centres are half a pixel further in.
        middle = np.array([width / 2, height / 2]) - 0.5
        offset = np.array([centre[1], centre[0]]) - 0.5 - turn / zoom @ middle
        bend = elastic_vectors(self.elastic / zoom, rng) if self.elastic else None
        return Geometry(np.hstack([turn / zoom, offset[:, None]]), bend)


def affine(matrix: npt.NDArray[np.float64], height: int, width: int) -> Warp:
    """Warp to a crop of the given size; `matrix` (2, 3) maps its pixels to those of the source."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    x, y = np.einsum("ij,jhw->ihw", matrix, np.stack([columns, rows, np.ones_like(rows)]))
    return Warp(x.astype(np.float32), y.astype(np.float32))


def elastic_vectors(sigma: float, rng: np.random.Generator) -> Floats:
    """Gaussian vectors (2, 3, 3) of standard deviation `sigma` on a coarse 3x3 grid.

    Ronneberger et al., "U-Net" (arXiv 1505.04597), section 3.1. The idea is from Simard et al.,
    ICDAR 2003.
    """
    return rng.normal(0, sigma, (2, 3, 3)).astype(np.float32)


def displacement(vectors: Floats, height: int, width: int) -> Floats:
    """Vectors (2, 3, 3) as a smooth field (2, height, width), interpolated bicubically."""
    planes = [cv2.resize(each, (width, height), interpolation=cv2.INTER_CUBIC) for each in vectors]
    return np.stack(planes).astype(np.float32)


def _centre(side: int, half: float, point: float | None, rng: np.random.Generator) -> float:
    """Draw the source coordinate of the crop's centre, on one axis.

    The crop of 2 `half` stays inside the image of length `side`. If the zoomed image is smaller
    than the crop, the crop is centred on it. The point stays a tenth of the crop's length away
    from the crop's sides if the image is large enough, so that the rotation does not lose it.
    """
    slack = max(0.0, side / 2 - half)
    lowest, highest = side / 2 - slack, side / 2 + slack
    if point is not None:
        lowest, highest = np.clip([point - 0.8 * half, point + 0.8 * half], lowest, highest)
    return float(rng.uniform(lowest, highest))
