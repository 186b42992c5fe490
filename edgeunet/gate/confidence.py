"""What a number of images can promise: exact bounds on a share (Clopper and Pearson, 1934)."""

from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np

CONFIDENCE = 0.95
"""Probability that a promise holds, if new images are as those that it was made from."""
_STEPS = 60  # of a bisection, which are more digits than a float has


def least_share(kept: int, images: int, *, confidence: float = CONFIDENCE) -> float:
    """The share that is kept of all images that may come, if so many of these were.

    It is the highest share for which the bound holds: were it any lower, so many would be kept with
    a probability of 1 - confidence at most.

    Raises:
        ValueError: fewer images than are kept, or none.

    Example:
        >>> from edgeunet.gate.confidence import least_share
        >>> round(least_share(59, 60), 3)
        0.923
    """
    if not 0 <= kept <= images or images == 0:
        raise ValueError(f"{kept} of {images} images are kept")
    if kept == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _probability(images - kept, images, 1 - middle) <= 1 - confidence:
            low = middle
        else:
            high = middle
    return low


def most_lost(images: int, share: float, *, confidence: float = CONFIDENCE) -> int | None:
    """How many of the images may be lost so that `least_share` is at least `share`.

    None: not even all of them promise that.

    Example:
        >>> from edgeunet.gate.confidence import most_lost
        >>> most_lost(58, 0.95), most_lost(59, 0.95), most_lost(252, 0.95)
        (None, 0, 6)
    """
    # The probability rises with what is lost: the first number that is too many is found.
    too_many = bisect_right(
        range(images), 1 - confidence, key=lambda lost: _probability(lost, images, 1 - share)
    )
    return too_many - 1 if too_many else None


def images_needed(share: float, *, confidence: float = CONFIDENCE) -> int:
    """How many images promise that share if none of them is lost.

    Example:
        >>> from edgeunet.gate.confidence import images_needed
        >>> images_needed(0.95)
        59
    """
    return math.ceil(math.log(1 - confidence) / math.log(share))


def _probability(lost: int, images: int, rate: float) -> float:
    """That at most `lost` of the images are lost, if each is with this probability."""
    if rate <= 0 or lost >= images:
        return 1.0
    if rate >= 1:
        return 0.0
    counts = np.arange(lost + 1)
    ways = [
        math.lgamma(images + 1) - math.lgamma(k + 1) - math.lgamma(images - k + 1) for k in counts
    ]
    logs = np.array(ways) + counts * math.log(rate) + (images - counts) * math.log1p(-rate)
    return float(np.exp(logs).sum())
