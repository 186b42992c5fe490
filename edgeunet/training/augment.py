"""Random geometry and colour for training crops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.datasets import Image
from .focus import Point
from .warp import Warp, affine, elastic_displacement


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes.

    crop: height and width of what comes out. margin: pixels of context around it.
    scale: smallest and largest zoom; chosen log-uniformly.
    rotation: largest angle, in degrees.
    elastic: sigma of the elastic displacements, in pixels of the crop; 0 for none.
    contrast, brightness, tint: largest relative change of the distance from the crop's mean, of all
    channels and of each. They are relative so that dark frames keep what is in them.
    """

    crop: tuple[int, int]
    scale: tuple[float, float]
    margin: int = 0
    rotation: float = 4.0
    elastic: float = 0.0
    contrast: float = 0.3
    brightness: float = 0.3
    tint: float = 0.06

    def warp(
        self, size: tuple[int, ...], rng: np.random.Generator, *, point: Point | None = None
    ) -> Warp:
        """Random place of a crop with its margin in an image of the given (H, W).

        Args:
            point: row and column, measured from the image's corner, that the crop shall hold.
        """
        height, width = (side + 2 * self.margin for side in self.crop)
        zoom = float(np.exp(rng.uniform(*np.log(self.scale))))
        flip = -1.0 if rng.random() < 0.5 else 1.0
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        reach = [out / zoom / 2 for out in self.crop]  # from the centre to a side, source pixels
        centre = [
            _centre(side, half, None if point is None else point[axis], rng)
            for axis, (side, half) in enumerate(zip(size, reach, strict=True))
        ]
        turn = np.array(
            [[flip * np.cos(angle), flip * np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
        )
        # Pixel centres lie half a pixel in from the corners that centre and crop are measured at.
        middle = np.array([width / 2, height / 2]) - 0.5
        offset = np.array([centre[1], centre[0]]) - 0.5 - turn / zoom @ middle
        warp = affine(np.hstack([turn / zoom, offset[:, None]]), height, width)
        if self.elastic:
            x, y = elastic_displacement(height, width, sigma=self.elastic / zoom, rng=rng)
            warp = Warp(warp.x + x, warp.y + y)
        return warp

    def colour(self, image: Image, rng: np.random.Generator) -> Image:
        """(H, W, C) -> the same with other brightness, contrast and tint."""
        contrast = 1.0 + rng.uniform(-self.contrast, self.contrast)
        brightness = 1.0 + rng.uniform(-self.brightness, self.brightness)
        tint = 1.0 + rng.uniform(-self.tint, self.tint, size=image.shape[2])
        mean = image.mean()
        levels = ((np.arange(256.0)[:, None] - mean) * contrast + mean) * brightness * tint
        table = np.clip(levels, 0, 255).astype(np.uint8)  # (256, C)
        return np.stack([table[image[..., c], c] for c in range(image.shape[2])], axis=-1)


def _centre(side: int, half: float, point: float | None, rng: np.random.Generator) -> float:
    """Source coordinate that lands in the crop's centre, on one axis.

    Anywhere that keeps the crop of 2 `half` inside the image of length `side`, or the image's
    centre where the zoomed image is smaller than the crop. A point comes no nearer to the crop's
    side than a tenth of its length, where the image allows, so that the rotation does not lose it.
    """
    slack = max(0.0, side / 2 - half)
    lowest, highest = side / 2 - slack, side / 2 + slack
    if point is not None:
        lowest, highest = np.clip([point - 0.8 * half, point + 0.8 * half], lowest, highest)
    return float(rng.uniform(lowest, highest))
