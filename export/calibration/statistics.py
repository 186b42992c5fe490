"""What calibration keeps of one activation, whatever the number and size of the frames."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

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
