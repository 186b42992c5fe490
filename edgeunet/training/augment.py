"""Random geometry and colour for training crops."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..metrics import IGNORE, Mask
from .data import Image


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes.

    crop: height and width of what comes out.
    scale: smallest and largest zoom; chosen log-uniformly.
    rotation: largest angle, in degrees.
    contrast, brightness, tint: largest relative change of contrast, of all channels and of each.
    """

    crop: tuple[int, int]
    scale: tuple[float, float]
    rotation: float = 4.0
    contrast: float = 0.3
    brightness: float = 0.2
    tint: float = 0.06

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
        """(H, W, C), (H, W) -> (crop, C), (crop); what lies outside the image is ignored."""
        image, mask = self._warp(image, mask, rng)
        return self._colour(image, rng), mask

    def _warp(self, image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
        height, width = self.crop
        zoom = float(np.exp(rng.uniform(*np.log(self.scale))))
        flip = -1.0 if rng.random() < 0.5 else 1.0
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        # Source point that lands in the crop's centre: anywhere that keeps the crop inside the
        # image, or the image's centre where the zoomed image is smaller than the crop.
        centre = [
            rng.uniform(-slack, slack) + size / 2
            for size, out in zip(mask.shape, self.crop, strict=True)
            for slack in [max(0.0, size - out / zoom) / 2]
        ]
        rotate = zoom * np.array(
            [[flip * np.cos(angle), -np.sin(angle)], [flip * np.sin(angle), np.cos(angle)]]
        )
        # Pixel centres lie half a pixel in from the corners that centre and crop are measured at.
        middle = np.array([width / 2, height / 2]) - 0.5
        offset = middle - rotate @ (np.array([centre[1], centre[0]]) - 0.5)
        matrix = np.hstack([rotate, offset[:, None]])
        size = (width, height)
        warped = cv2.warpAffine(
            image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        classes = cv2.warpAffine(
            mask, matrix, size, flags=cv2.INTER_NEAREST, borderValue=(float(IGNORE),)
        )
        pixels = np.asarray(warped, np.uint8).reshape(height, width, image.shape[2])
        return pixels, np.asarray(classes, np.uint8)

    def _colour(self, image: Image, rng: np.random.Generator) -> Image:
        gain = 1.0 + rng.uniform(-self.contrast, self.contrast)
        shift = 255.0 * rng.uniform(-self.brightness, self.brightness)
        tint = 1.0 + rng.uniform(-self.tint, self.tint, size=image.shape[2])
        levels = (np.arange(256.0)[:, None] - 128.0) * gain * tint + 128.0 + shift
        table = np.clip(levels, 0, 255).astype(np.uint8)  # (256, C)
        return np.stack([table[image[..., c], c] for c in range(image.shape[2])], axis=-1)
