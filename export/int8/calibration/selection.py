"""A few frames that differ as much as they can, out of many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.runtime.frames import Frame

Item = TypeVar("Item")
Kept = TypeVar("Kept")

_SIDE = 16  # of the thumbnails, pixels
SAME = 0.5
"""Distance, in grey levels, below which frames show the same thing: a video's own noise."""


@dataclass(frozen=True)
class Descriptor:
    """What is remembered of a frame: 6 KB.

    vector: thumbnail, and mean and standard deviation by channel, scaled so that the Euclidean
    distance of two is in grey levels. size: (height, width), pixels. spread: standard deviation of
    the luma, grey levels. smoothness: correlation of the luma of neighbouring pixels, the larger
    of both directions, -1..1; 1 for a constant frame.
    """

    vector: npt.NDArray[np.float64]
    size: tuple[int, int]
    spread: float
    smoothness: float


def describe_frame(frame: Frame) -> Descriptor:
    """Descriptor of an RGB frame (H, W, 3)."""
    thumbnail = cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    mean, deviation = (np.ravel(part) for part in cv2.meanStdDev(frame))
    statistics = np.concatenate([mean, deviation])
    vector = np.concatenate(
        [
            thumbnail.astype(np.float64).ravel() / np.sqrt(thumbnail.size),
            statistics / np.sqrt(statistics.size),
        ]
    )
    luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return Descriptor(
        vector=vector,
        size=(frame.shape[0], frame.shape[1]),
        spread=float(luma.std()),
        smoothness=max(_correlation(luma[:, 1:], luma[:, :-1]), _correlation(luma[1:], luma[:-1])),
    )


def farthest_first(vectors: npt.NDArray[np.float64], count: int) -> list[int]:
    """Rows of (N, D) chosen greedily, each the farthest from those before; at most `count`.

    Greedy k-centre, which covers the rows with at most twice the smallest possible radius:
    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985. It starts at the row
    nearest to the mean, and ends early where all rows that are left equal a chosen one.
    """
    start = int(np.argmin(np.linalg.norm(vectors - vectors.mean(0), axis=1)))
    chosen = [start]
    nearest = np.linalg.norm(vectors - vectors[start], axis=1)
    while len(chosen) < count and nearest.max() > 0:
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(vectors - vectors[chosen[-1]], axis=1))
    return chosen


def evenly(items: Sequence[int], count: int) -> list[int]:
    """At most `count` items, evenly spaced, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]


def thinned(items: Iterable[Item], most: int, *, kept: Callable[[Item], Kept]) -> list[Kept]:
    """What `kept` makes of at most `most` items, evenly spaced, however many come.

    Spaced by a power of two, for how many come is not known before; nothing is made of the others.
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
    """Pearson's coefficient; 1 where either is constant or there is nothing to compare."""
    if not a.size:
        return 1.0
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).mean() * (b * b).mean()))
    return float((a * b).mean()) / scale if scale > 0 else 1.0
