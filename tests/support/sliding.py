"""nnU-Net's sliding window from its description: whole arrays, one window after the other.

Isensee et al., Nature Methods 18 (2021), and nnunetv2/inference: images smaller than the patch are
padded with 0 on both sides; windows are spread evenly so that the step is at most a share of the
patch; logits are averaged, weighted by a Gaussian with a sigma of an eighth of the patch. No
mirroring.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def even_steps(length: int, patch: int, share: float) -> list[int]:
    """First pixels of the fewest windows whose step is at most `share` of the patch."""
    if length == patch:
        return [0]
    gaps = int(np.ceil((length - patch) / (patch * share)))
    return [int(np.round((length - patch) / gaps * index)) for index in range(gaps + 1)]


def gaussian_importance(patch: tuple[int, int]) -> Array:
    """A one in the middle of the patch, blurred and scaled to a maximum of 1."""
    sides = []
    for side in patch:
        sigma, peak = side / 8, np.zeros(side)
        peak[side // 2] = 1
        reach = int(4 * sigma + 0.5)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        blurred = np.convolve(peak, kernel / kernel.sum())
        sides.append(blurred[reach : reach + side])
    importance = np.outer(*sides)
    return importance / importance.max()


def sliding_logits(
    net: Callable[[Array], Array], image: Array, patch: tuple[int, int], share: float
) -> Array:
    """Logits (classes, H, W) of a normalised image (C, H, W); net: (1, C, h, w) -> logits."""
    size = image.shape[1:]
    missing = [max(side - length, 0) for length, side in zip(size, patch, strict=True)]
    padded = np.pad(image, [(0, 0), *((each // 2, each - each // 2) for each in missing)])
    importance = gaussian_importance(patch)
    sums, weights = 0.0, np.zeros(padded.shape[1:])
    steps = [even_steps(n, p, share) for n, p in zip(padded.shape[1:], patch, strict=True)]
    for top, left in product(*steps):
        place = np.s_[..., top : top + patch[0], left : left + patch[1]]
        logits = net(padded[place][None])[0].astype(np.float64)
        added = np.zeros((len(logits), *padded.shape[1:]))
        added[place] = logits * importance
        sums = sums + added
        weights[place] += importance
    rows, columns = (
        slice(each // 2, each // 2 + length) for each, length in zip(missing, size, strict=True)
    )
    return (sums / weights)[:, rows, columns]
