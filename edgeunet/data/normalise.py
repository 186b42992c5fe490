"""Normalises planes of an image, by fixed numbers or by what is measured on the image itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..bundle.manifest import BYTE_FILTERS, InputSpec
from ..bundle.steps import ImageStatistics

Plane = npt.NDArray[Any]
"""(H, W) of one of `DEPTHS`."""
Mask = npt.NDArray[np.bool_]
_EXACT = 1 << 24
"""OpenCV counts in FP32, which is exact up to here."""


def scaling(spec: InputSpec) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Gain and shift of each channel of the net: image = value * gain + shift, in FP32."""
    low, high = spec.levels
    std = np.asarray(spec.std, np.float32)
    offset = np.float32(low / (high - low))
    return np.float32(1) / ((high - low) * std), -(offset + np.asarray(spec.mean, np.float32)) / std


def padding(spec: InputSpec) -> npt.NDArray[np.float32]:
    """Value of each channel of the net outside of the frame, FP32."""
    if spec.fill is None:
        return np.zeros(len(spec.channels), np.float32)
    gain, shift = scaling(spec)
    value: npt.NDArray[np.float32] = np.float32(spec.fill) * gain + shift
    return value


@dataclass(frozen=True, eq=False)
class Normalisation:
    """From raw values to the net's: (value - centre) * gain + shift, in FP32, channel by channel.

    centre, gain, shift: (C,). Values that are measured are centred first, because they may be large
    and close together.
    outside, empty: (C,), the net's values where there is no frame, and of pixels that are not
    measured.
    statistics: what was measured, None for fixed numbers.
    before: whether it is applied before images are resized, not after it.
    """

    centre: npt.NDArray[np.float32]
    gain: npt.NDArray[np.float32]
    shift: npt.NDArray[np.float32]
    outside: npt.NDArray[np.float32]
    empty: npt.NDArray[np.float32]
    statistics: ImageStatistics | None = None
    before: bool = False

    @classmethod
    def fixed(cls, spec: InputSpec) -> Normalisation:
        """By the numbers of the input alone."""
        gain, shift = scaling(spec)
        return cls(np.zeros_like(gain), gain, shift, padding(spec), np.zeros_like(gain))

    @classmethod
    def of(cls, planes: Sequence[Plane], spec: InputSpec) -> Normalisation:
        """For an image, as planes in the net's order: measured on it if the input says so."""
        statistics = spec.statistics
        if statistics is None:
            return cls.fixed(spec)
        low, divisor = np.array(measure(planes, statistics)).T
        mean, std = np.asarray(spec.mean), np.asarray(spec.std)
        centre = low.astype(np.float32)
        gain = (1 / (divisor * std)).astype(np.float32)
        shift = (((centre - low) / divisor - mean) / std).astype(np.float32)
        empty = (-mean / std).astype(np.float32)
        early = spec.filter not in BYTE_FILTERS
        return cls(centre, gain, shift, padding(spec), empty, statistics, early)

    def apply(self, values: Plane, channel: int, out: npt.NDArray[np.float32]) -> None:
        """Normalise a plane of one channel, into `out`."""
        if self.statistics is not None:
            values = np.subtract(values, self.centre[channel], dtype=np.float32)
        np.multiply(values, self.gain[channel], out=out)
        out += self.shift[channel]

    def __call__(self, planes: Sequence[Plane]) -> list[npt.NDArray[np.float32]]:
        """Normalise planes in the net's order; pixels that are not measured become 0."""
        normalised = []
        pixels = "all" if self.statistics is None else self.statistics.pixels
        for channel, (plane, kept) in enumerate(
            zip(planes, kept_pixels(planes, pixels), strict=True)
        ):
            values = np.empty(plane.shape, np.float32)
            self.apply(plane, channel, values)
            if kept is not None:
                values[~kept] = self.empty[channel]
            normalised.append(values)
        return normalised


def kept_pixels(planes: Sequence[Plane], pixels: str) -> list[Mask | None]:
    """The pixels of each plane that are measured, see `ImageStatistics`; None for all."""
    if pixels == "all":
        return [None] * len(planes)
    filled = [plane != 0 for plane in planes]
    return filled if pixels == "nonzero" else [np.logical_or.reduce(filled)] * len(planes)


def measure(planes: Sequence[Plane], statistics: ImageStatistics) -> list[tuple[float, float]]:
    """What is subtracted from each plane, and what it is divided by then.

    Integers are counted, so that their results are exact up to the last rounding. Floats are
    summed up in FP64.

    Example:
        >>> from edgeunet.bundle.steps import ImageStatistics
        >>> from edgeunet.data.normalise import measure
        >>> measure([np.array([[1, 3], [5, 7]], np.uint8)], ImageStatistics(measure="range"))
        [(1.0, 6.0)]
    """
    kept = kept_pixels(planes, statistics.pixels)
    groups = [[each] for each in zip(planes, kept, strict=True)]
    if not statistics.per_channel:
        groups = [[each for group in groups for each in group]]
    found = []
    for group in groups:
        values, counts = _distribution(group)
        if statistics.measure == "zscore":
            low, spread = _moments(values, counts)
        else:
            low, high = _percentiles(values, counts, statistics.percentiles)
            spread = high - low
        found.append((low, statistics.divisor(spread)))
    return found if statistics.per_channel else found * len(planes)


def _distribution(
    group: Sequence[tuple[Plane, Mask | None]],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64] | None]:
    """The values of some planes and how often each occurs, ascending; None for once each."""
    if group[0][0].dtype.kind == "f":
        chosen = [plane.ravel() if kept is None else plane[kept] for plane, kept in group]
        return np.concatenate(chosen).astype(np.float64), None
    counts = np.sum([_counts(plane, kept) for plane, kept in group], axis=0)
    values = np.flatnonzero(counts)
    least = np.iinfo(group[0][0].dtype).min
    return (values + least).astype(np.float64), counts[values]


def _counts(plane: Plane, kept: Mask | None) -> npt.NDArray[np.int64]:
    """How often each value of an integer type occurs, from the least one on."""
    levels = 1 << (8 * plane.dtype.itemsize)
    if plane.dtype == np.int16:
        plane = plane.view(np.uint16) ^ np.uint16(1 << 15)
    rows = max(1, _EXACT // plane.shape[1])
    total = np.zeros(levels, np.int64)
    for top in range(0, len(plane), rows):
        part = np.ascontiguousarray(plane[top : top + rows])
        mask = None if kept is None else kept[top : top + rows].astype(np.uint8)
        found = cv2.calcHist([part], [0], mask, [levels], [0, levels])
        total += found.ravel().astype(np.int64)  # (levels,) or (levels, 1), by version
    return total


def _moments(
    values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64] | None
) -> tuple[float, float]:
    """Mean and standard deviation; 0 and 0 of nothing."""
    if not len(values):
        return 0.0, 0.0
    mean = np.average(values, weights=counts)
    variance = np.average(np.square(values - mean), weights=counts)
    return float(mean), float(np.sqrt(variance))


def _percentiles(
    values: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64] | None,
    percentiles: tuple[float, float],
) -> tuple[float, float]:
    """Two percentiles, interpolated linearly as NumPy does; 0 and 0 of nothing."""
    if not len(values):
        return 0.0, 0.0
    if counts is None:
        low, high = np.percentile(values, percentiles)
        return float(low), float(high)
    before = np.cumsum(counts)
    places = np.array(percentiles) / 100 * (before[-1] - 1)
    first = np.floor(places).astype(np.int64)
    second = np.minimum(first + 1, before[-1] - 1)
    lower, upper = (values[np.searchsorted(before, at, side="right")] for at in (first, second))
    low, high = lower + (upper - lower) * (places - first)
    return float(low), float(high)
