"""From what was seen of an activation to its range: four methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.calibration_table import Method

Range = tuple[float, float]

METHODS: tuple[Method, ...] = get_args(Method)
"""In the order in which they win where measurements cannot tell them apart."""

LEVELS = 128  # of the magnitudes in symmetric INT8, for which TensorRT reads the table
_STRIDE = 16  # bins between two thresholds that are tried

# A dead activation has no range, and no scale that FP16 can hold: it gets this one, which makes the
# symmetric scale the smallest normal FP16 number.
_NARROWEST = 127 * 2.0**-14


def ranges_of(statistics: Mapping[str, Statistics], method: Method) -> dict[str, Range]:
    """Range of every activation by one method."""
    rule = _RULES[method]
    return {name: _alive(rule(seen)) for name, seen in statistics.items()}


def minmax(seen: Statistics) -> Range:
    """All values: nothing is clipped, and single outliers cost all others their resolution."""
    return seen.lowest, seen.highest


def percentile(seen: Statistics) -> Range:
    """The widest of the frames' ranges, each without its most extreme values at either end."""
    return seen.low, seen.high


def entropy(seen: Statistics) -> Range:
    """All values up to the magnitude that `entropy_threshold` gives."""
    return _within(seen, entropy_threshold(seen.histogram))


def mse(seen: Statistics) -> Range:
    """All values up to the magnitude that `mse_threshold` gives."""
    return _within(seen, mse_threshold(seen.histogram))


def entropy_threshold(histogram: Histogram) -> float:
    """Magnitude at which clipping and rounding to `LEVELS` levels lose the least information.

    The Kullback-Leibler divergence of the histogram, clipped, from its rounded form: Migacz, "8-bit
    Inference with TensorRT", GTC 2017, slides 25 to 36, with the two details of NVIDIA's
    pytorch-quantization (calib/histogram.py): the bin at zero, which holds all that a ReLU closes,
    counts as its neighbour does, and of equal divergences the larger threshold wins. Thresholds are
    tried every `_STRIDE` bins, and at the last bin with values.
    """
    counts = histogram.counts.copy()
    counts[0] = counts[1]
    tried = _tried(counts)
    divergences = [_divergence(counts, bins) for bins in tried]
    best = len(tried) - 1 - int(np.argmin(divergences[::-1]))
    return float(tried[best] * histogram.span / BINS)


def mse_threshold(histogram: Histogram) -> float:
    """Magnitude at which clipping and rounding to `LEVELS` levels make the least squared error.

    The error by whose formula Banner et al., "Post training 4-bit quantization of convolutional
    networks" (arXiv 1810.05723), clip is summed over the bins here: a value beyond the threshold
    moves to it, one within errs by a twelfth of the squared step, and one that rounds to zero by
    its own square. What a ReLU closes is zero and costs nothing.
    """
    magnitudes = np.arange(BINS, dtype=np.float64) + 0.5  # in bins
    magnitudes[0] = 0.0
    tried = _tried(histogram.counts)
    errors = [float(histogram.counts @ _squared_error(magnitudes, bins)) for bins in tried]
    return float(tried[int(np.argmin(errors))] * histogram.span / BINS)


def _tried(counts: npt.NDArray[np.int64]) -> list[int]:
    """Thresholds that are tried, in bins; all bins where nothing was counted."""
    occupied = np.flatnonzero(counts)
    if not occupied.size:
        return [BINS]
    last = int(occupied[-1]) + 1
    return [*range(LEVELS, last, _STRIDE), last]


def _squared_error(magnitudes: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.float64]:
    """What is lost of each magnitude, in squared bins, when `bins` are the largest level."""
    step = bins / (LEVELS - 1)
    rounded = np.where(magnitudes < step / 2, magnitudes**2, step**2 / 12)
    return np.where(magnitudes < bins, rounded, (magnitudes - bins) ** 2)


def _divergence(counts: npt.NDArray[np.int64], bins: int) -> float:
    """KL(P || Q): P the first bins with all beyond in the last, Q the bins rounded to levels."""
    kept = counts[:bins]
    held = kept > 0
    level = np.arange(bins) * LEVELS // bins
    total = np.bincount(level, kept, LEVELS)
    # A level spreads over those of its bins that hold values.
    share = total / np.maximum(np.bincount(level, held, LEVELS), 1)
    rounded = share[level][held]
    clipped = kept.astype(np.float64)
    outliers = float(counts[bins:].sum())
    if not held.any() or (outliers and not held[-1]):
        return float("inf")  # values where the rounded form has none
    clipped[-1] += outliers
    clipped = clipped[held]
    p, q = clipped / clipped.sum(), rounded / rounded.sum()
    return float(np.sum(p * np.log(p / q)))


def _within(seen: Statistics, threshold: float) -> Range:
    return max(seen.lowest, -threshold), min(seen.highest, threshold)


def _alive(limits: Range) -> Range:
    lowest, highest = limits
    if max(-lowest, highest) < _NARROWEST:
        return -_NARROWEST, _NARROWEST
    return lowest, highest


_RULES: dict[Method, Callable[[Statistics], Range]] = {
    "mse": mse,
    "percentile": percentile,
    "entropy": entropy,
    "minmax": minmax,
}

BINS = 2048
"""Bins of a histogram: TensorRT's number."""

TAIL = 1e-4
"""Share of the values at either end that a frame's quantiles leave out."""

_SAMPLE = 200_000  # values looked at of one activation in one frame, evenly spaced
_SMALLEST_SPAN = 2.0**-7  # what a histogram starts with: no live activation is smaller

Values = npt.NDArray[np.float32]


@dataclass
class Histogram:
    """Counts of absolute values, in `BINS` bins from 0 to `span`.

    A value beyond the span doubles it, and neighbouring bins become one: nothing is estimated, and
    since spans are powers of two the order of the values does not matter.
    """

    span: float = _SMALLEST_SPAN
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: Values) -> None:
        """Count the absolute values of a flat array; they must be finite."""
        magnitudes = np.abs(values)
        largest = float(magnitudes.max(initial=0.0))
        while self.span < largest:
            self.span *= 2
            self.counts[: BINS // 2] = self.counts[0::2] + self.counts[1::2]
            self.counts[BINS // 2 :] = 0
        magnitudes *= np.float32(BINS / self.span)
        bins = np.minimum(magnitudes.astype(np.int32), BINS - 1)  # the span itself: the last bin
        self.counts += np.bincount(bins, minlength=BINS)


@dataclass
class Statistics:
    """What has been seen of one activation: 16 KB and four numbers.

    lowest, highest: of all values. low, high: the widest of the frames' quantiles at `TAIL`. All
    four hold 0. The quantiles and the histogram look at `_SAMPLE` values of a frame at most.
    """

    lowest: float = 0.0
    highest: float = 0.0
    low: float = 0.0
    high: float = 0.0
    histogram: Histogram = field(default_factory=Histogram)

    def add(self, values: Values) -> bool:
        """Take in one frame's values, of any shape; False, and nothing noted, unless finite."""
        lowest, highest = float(values.min()), float(values.max())  # both are NaN where any is
        if not np.isfinite([lowest, highest]).all():
            return False
        self.lowest, self.highest = min(self.lowest, lowest), max(self.highest, highest)
        flat = values.ravel()
        sample = flat[:: max(1, flat.size // _SAMPLE)]
        low, high = (float(v) for v in np.quantile(sample, [TAIL, 1 - TAIL]))
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.histogram.add(sample)
        return True
