"""Pictures whose light changes, and what JPEG makes of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeunet.training.photometry import Light


def wavy(shape: tuple[int, int, int], seed: int) -> npt.NDArray[np.uint8]:
    """A picture (H, W, C) of 8 bit: waves of some pixels' length, and noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    planes = [
        40 * np.sin(rows / rng.uniform(4, 9)) + 40 * np.cos(columns / rng.uniform(3, 8))
        for _ in range(shape[2])
    ]
    noisy = np.stack(planes, -1) + 120 + rng.normal(0, 6, shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def in_jpeg(picture: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """A picture after JPEG on the CPU."""
    ones = np.ones(picture.shape[2])
    return Light(None, None, 1.0, ones, 1.0, None, quality).apply(picture)
