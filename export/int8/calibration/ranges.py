"""Statistics of an activation -> its range, by four methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.calibration_table import Method

Range = tuple[float, float]

METHODS: tuple[Method, ...] = get_args(Method)
"""In the order of preference, for when measurements cannot tell them apart."""

LEVELS = 128  # magnitudes in symmetric INT8, which TensorRT uses
IMAGE = "image"
"""Name of the graph's input."""

_STRIDE = 16  # bins between two candidate thresholds

# An activation that is always zero has no range, and no scale that FP16 can hold. Its range ends
# here, which makes the symmetric scale the smallest normal FP16 number.
_NARROWEST = 127 * 2.0**-14


def ranges_of(statistics: Mapping[str, Statistics], method: Method) -> dict[str, Range]:
    """Range of every activation by one method; the image's holds all of its values.

    A clipped image cost U-Net (32 channels) a third of the pixels that its first convolution lost
    in INT8.
    """
    return {
        name: _widened((minmax if name == IMAGE else _RULES[method])(seen))
        for name, seen in statistics.items()
    }


def _widened(limits: Range) -> Range:
    """The range, if it is too narrow up to `_NARROWEST` on the sides that have values.

    A Relu's stays on its side of 0: ONNX Runtime drops a Relu that ends where the range does, and
    runs a convolution in front of any other one in float.
    """
    low, high = limits
    if max(-low, high) >= _NARROWEST:
        return limits
    return (-_NARROWEST if low < 0 else 0.0), (_NARROWEST if high > 0 or low == 0 else 0.0)


def minmax(seen: Statistics) -> Range:
    """All values: nothing is clipped, and a single outlier coarsens all other values."""
    return seen.lowest, seen.highest


def percentile(seen: Statistics) -> Range:
    """The widest of the frames' ranges, each without the share `TAIL` of values at either end."""
    return seen.low, seen.high


def entropy(seen: Statistics) -> Range:
    """All values up to the magnitude that `entropy_threshold` gives."""
    return _within(seen, entropy_threshold(seen.histogram))


def mse(seen: Statistics) -> Range:
    """All values up to the magnitude that `mse_threshold` gives."""
    return _within(seen, mse_threshold(seen.histogram))


def entropy_threshold(histogram: Histogram) -> float:
    """Magnitude at which clipping and rounding to `LEVELS` levels lose the least information.

    Minimises the Kullback-Leibler divergence between the clipped histogram and its rounded form:
    Migacz, "8-bit Inference with TensorRT", GTC 2017, slides 25 to 36. Two details follow NVIDIA's
    pytorch-quantization (calib/histogram.py): the bin at zero, which holds everything that a ReLU
    closes, gets the count of its neighbour, and among equal divergences the larger threshold wins.
    Candidates are every `_STRIDE` bins, and the last bin with values.
    """
    counts = histogram.counts.copy()
    counts[0] = counts[1]
    tried = _tried(counts)
    divergences = [_divergence(counts, bins) for bins in tried]
    best = len(tried) - 1 - int(np.argmin(divergences[::-1]))
    return float(tried[best] * histogram.span / BINS)


def mse_threshold(histogram: Histogram) -> float:
    """Magnitude at which clipping and rounding to `LEVELS` levels make the least squared error.

    Sums the error formula of Banner et al., "Post training 4-bit quantization of convolutional
    networks" (arXiv 1810.05723), over the bins: a value beyond the threshold moves to it, a value
    within it errs by a twelfth of the squared step, and a value that rounds to zero errs by its own
    square. Zeros, such as those from a ReLU, cost nothing.
    """
    magnitudes = np.arange(BINS, dtype=np.float64) + 0.5  # in bins
    magnitudes[0] = 0.0
    tried = _tried(histogram.counts)
    errors = [float(histogram.counts @ _squared_error(magnitudes, bins)) for bins in tried]
    return float(tried[int(np.argmin(errors))] * histogram.span / BINS)


def _tried(counts: npt.NDArray[np.int64]) -> list[int]:
    """Candidate thresholds in bins; all bins if nothing was counted."""
    occupied = np.flatnonzero(counts)
    if not occupied.size:
        return [BINS]
    last = int(occupied[-1]) + 1
    return [*range(LEVELS, last, _STRIDE), last]


def _squared_error(magnitudes: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.float64]:
    """Squared error of each magnitude, in squared bins, if the largest level is at `bins`."""
    step = bins / (LEVELS - 1)
    rounded = np.where(magnitudes < step / 2, magnitudes**2, step**2 / 12)
    return np.where(magnitudes < bins, rounded, (magnitudes - bins) ** 2)


def _divergence(counts: npt.NDArray[np.int64], bins: int) -> float:
    """KL(P || Q). P: the first bins, the last with all values beyond; Q: P rounded to levels."""
    kept = counts[:bins]
    held = kept > 0
    level = np.arange(bins) * LEVELS // bins
    total = np.bincount(level, kept, LEVELS)
    # A level is spread over those of its bins that hold values.
    share = total / np.maximum(np.bincount(level, held, LEVELS), 1)
    rounded = share[level][held]
    clipped = kept.astype(np.float64)
    outliers = float(counts[bins:].sum())
    if not held.any() or (outliers and not held[-1]):
        return float("inf")  # P has values where Q has none
    clipped[-1] += outliers
    clipped = clipped[held]
    p, q = clipped / clipped.sum(), rounded / rounded.sum()
    return float(np.sum(p * np.log(p / q)))


def _within(seen: Statistics, threshold: float) -> Range:
    return max(seen.lowest, -threshold), min(seen.highest, threshold)


_RULES: dict[Method, Callable[[Statistics], Range]] = {
    "mse": mse,
    "percentile": percentile,
    "entropy": entropy,
    "minmax": minmax,
}

BINS = 2048
"""Bins of a histogram, as many as TensorRT uses."""

TAIL = 1e-4
"""Share of a frame's values at either end that its quantiles leave out."""

_SAMPLE = 200_000  # most values used of one activation in one frame, evenly spaced
_SMALLEST_SPAN = 2.0**-7  # initial span of a histogram; nonzero activations are larger

Values = npt.NDArray[np.float32]


@dataclass
class Histogram:
    """Counts of absolute values, in `BINS` bins from 0 to `span`.

    A value beyond the span doubles the span and merges neighbouring bins. So counts are exact, and
    because spans are powers of two, the order of the values does not matter.
    """

    span: float = _SMALLEST_SPAN
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: Values) -> None:
        """Count the absolute values of a flat array, which must be finite."""
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
    """Statistics of one activation: four numbers and a histogram of 16 KB.

    lowest, highest: of all values. low, high: the widest of the frames' quantiles at `TAIL`. Both
    ranges include 0. Quantiles and histogram use at most `_SAMPLE` values of each frame.
    """

    lowest: float = 0.0
    highest: float = 0.0
    low: float = 0.0
    high: float = 0.0
    histogram: Histogram = field(default_factory=Histogram)

    def add(self, values: Values) -> bool:
        """Add one frame's values, of any shape; if one is not finite, add none and return False.

        There may be none: some encoders have a stage without channels.
        """
        if not values.size:
            return True
        lowest, highest = float(values.min()), float(values.max())  # both are NaN where any is
        if not np.isfinite([lowest, highest]).all():
            return False
        self.lowest, self.highest = min(self.lowest, lowest), max(self.highest, highest)
        flat = values.ravel()
        sample = flat[:: max(1, flat.size // _SAMPLE)]
        self.low, self.high = min(self.low, _lower(sample)), max(self.high, -_lower(-sample))
        self.histogram.add(sample)
        return True


_COARSE = 32
_MANY = 1000  # from here on every `_COARSE`-th value is more than the values below the quantile


def _lower(values: Values) -> float:
    """The quantile at `TAIL` of a flat array, interpolated linearly as `np.quantile` does.

    That sorts by both ends at once, which takes most of the time of calibration. Here only the
    values are sorted that do not exceed a limit which enough of every `_COARSE`-th value keep to.
    """
    place = TAIL * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    few = values if len(values) < _MANY else values[::_COARSE]
    limit = np.partition(few, above)[above]
    lowest = values.min()
    if limit == lowest:  # as what a ReLU closes
        return float(lowest)
    tail = np.partition(values[values <= limit], [below, above])
    first, second = float(tail[below]), float(tail[above])
    return first + (place - below) * (second - first)
