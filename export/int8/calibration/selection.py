"""Choose a few frames that differ as much as possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.bundle.manifest import RGB
from edgeunet.data.fit import Fit, gray_levels, gray_of
from edgeunet.runtime.frames import Frame

Item = TypeVar("Item")
Kept = TypeVar("Kept")

_SIDE = 16  # of the thumbnails, pixels
SAME = 0.5
"""Distance in grey levels below which frames count as equal: the noise within a video."""


@dataclass(frozen=True)
class Descriptor:
    """A summary of a frame: 6 KB.

    vector: thumbnail, mean and standard deviation of each channel, scaled so that the Euclidean
    distance between two vectors is in grey levels, 255 of which lie between black and white.
    level, spread: mean and standard deviation of the luma, grey levels. smoothness: correlation of
    the luma of neighbouring pixels, the larger of both directions, -1..1; 1 for a constant frame.
    """

    vector: npt.NDArray[np.float64]
    level: float
    spread: float
    smoothness: float


def describe_frame(frame: Frame, fit: Fit) -> Descriptor:
    """Summarise a frame that `fit` made. The luma of other channels than RGB is their mean."""
    light = gray_levels(frame, fit.spec.levels)
    planes = cv2.split(light)
    thumbnail = [cv2.resize(p, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for p in planes]
    moments = [np.ravel(cv2.meanStdDev(plane)) for plane in planes]
    parts = (np.stack(thumbnail, axis=-1).astype(np.float64).ravel(), np.ravel(moments))
    vector = np.concatenate([part / np.sqrt(part.size) for part in parts])
    if fit.channels == RGB:
        luma = gray_of(light)[..., 0].astype(np.float32)
    else:
        luma = light.astype(np.float32).mean(axis=2)
    return Descriptor(
        vector=vector,
        level=float(luma.mean()),
        spread=float(luma.std()),
        smoothness=max(_correlation(luma[:, 1:], luma[:, :-1]), _correlation(luma[1:], luma[:-1])),
    )


def farthest_first(vectors: npt.NDArray[np.float64], count: int) -> list[int]:
    """Choose at most `count` rows of (N, D), each the farthest from those chosen before.

    Greedy k-centre, which covers the rows with at most twice the smallest possible radius:
    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985. It starts at the row
    nearest to the mean, and ends early if all remaining rows equal a chosen one.
    """
    start = int(np.argmin(np.linalg.norm(vectors - vectors.mean(0), axis=1)))
    chosen = [start]
    nearest = np.linalg.norm(vectors - vectors[start], axis=1)
    while len(chosen) < count and nearest.max() > 0:
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(vectors - vectors[chosen[-1]], axis=1))
    return chosen


def evenly(items: Sequence[int], count: int) -> list[int]:
    """At most `count` items, evenly spaced, including the first and the last."""
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]


def thinned(items: Iterable[Item], most: int, *, kept: Callable[[Item], Kept]) -> list[Kept]:
    """Apply `kept` to at most `most` items of an iterable of unknown length, evenly spaced.

    The spacing is a power of two; `kept` is not called for the items between.
    """
    found: list[Kept] = []
    step = 1
    for index, item in enumerate(items):
        if index % step:
            continue
        found.append(kept(item))
        if len(found) > most:
            found = found[::2]
            step *= 2
    return found


def _correlation(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Pearson's coefficient; 1 if either is constant or empty."""
    if not a.size:
        return 1.0
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).mean() * (b * b).mean()))
    return float((a * b).mean()) / scale if scale > 0 else 1.0
