"""What the frames of an export were like, and whether other frames are like them.

A net gives an answer for any picture. If the pictures are of another kind than those it knows, the
answer is wrong, and nothing in the masks shows it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_log = logging.getLogger(__name__)

# How far the mean of a channel may lie outside the range of the export's frames, in levels, and by
# what factor its standard deviation may. Measured on single frames and on eight at a time: no
# validation frames of cells, streets, magnetic tiles or membranes are too far from the training
# frames of their own data set. Streets are always too far from cells, and cells from streets. Many
# magnetic tiles and membranes are not too far from the others: they have their brightness and
# contrast.
_MEAN = 0.25
_DEVIATION = 1.75
FIRST = 8
"""Frames of a stream that are compared with those of the export."""

_PIXELS = 1 << 16  # of a frame that are looked at, evenly spaced

Range = tuple[float, float]


@dataclass(frozen=True)
class FrameStatistics:
    """What the frames of an export were like, by channel, in levels 0..1.

    mean: smallest and largest mean of a frame. deviation: smallest and largest standard deviation.
    """

    mean: tuple[Range, ...]
    deviation: tuple[Range, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.deviation):
            raise ValueError(
                f"statistics of {len(self.mean)} and of {len(self.deviation)} channels"
            )
        for low, high in (*self.mean, *self.deviation):
            if not -math.inf < low <= high < math.inf:  # NaN too
                raise ValueError(f"statistics from {low} to {high}; expected a range")


def statistics_of(
    frames: Iterable[npt.NDArray[np.generic]], *, levels: Range = (0, 255)
) -> FrameStatistics:
    """Statistics of frames (H, W, C).

    Args:
        levels: values of black and white.

    Example:
        >>> from edgeunet.bundle.statistics import statistics_of
        >>> statistics_of([np.zeros((2, 2, 1), np.uint8), np.full((2, 2, 1), 255, np.uint8)])
        FrameStatistics(mean=((0.0, 1.0),), deviation=((0.0, 0.0),))
    """
    means, deviations = zip(*(_moments(frame, levels) for frame in frames), strict=True)
    return FrameStatistics(mean=_ranges(means), deviation=_ranges(deviations))


class FirstFrames:
    """Compares the first `FIRST` frames that it is given with those of the export.

    One warning reports a difference. difference: what the warning says of it, None if there is none
    or it is not known yet.

    Args:
        expected: None if the bundle does not say; then nothing is compared.
        levels: values of black and white. name: of the frames' source, for the warning.
    """

    def __init__(
        self, expected: FrameStatistics | None, *, levels: Range = (0, 255), name: str = ""
    ) -> None:
        self._expected, self._levels, self._name = expected, levels, name
        self._seen: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []
        self.difference: str | None = None

    def add(self, frame: npt.NDArray[np.generic]) -> None:
        """Look at a frame (H, W, C), also one on a GPU, unless enough were seen."""
        if self._expected is not None:
            self._seen.append(_moments(np.asarray(frame), self._levels))
            if len(self._seen) == FIRST:
                self.end()

    def end(self) -> None:
        """Compare what was seen; called at the end of a stream, which may be shorter."""
        if self._expected is None or not self._seen:
            return
        mean, deviation = (np.median(part, axis=0) for part in zip(*self._seen, strict=True))
        expected, self._expected = self._expected, None
        parts = (
            _outside("brightness", mean, expected.mean, _widened),
            _outside("contrast", deviation, expected.deviation, _stretched),
        )
        self.difference = " and ".join(part for part in parts if part) or None
        if self.difference is not None:
            _log.warning("%s", unlike(self.difference, name=self._name))


def unlike(difference: str, *, name: str = "") -> str:
    """A warning of what `FirstFrames` found.

    Args:
        difference: see `FirstFrames`. name: of the frames' source.
    """
    return (
        f"The frames{name and f' of {name}'} are unlike those that this bundle was made with: "
        f"{difference}. The masks are probably wrong. Use weights that were trained on such "
        "frames: `edgeunet models` lists those of the package, `edgeunet train` makes others."
    )


def _moments(
    frame: npt.NDArray[np.generic], levels: Range
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation (C,) of a frame (H, W, C), in levels 0..1."""
    step = max(1, math.isqrt(frame.shape[0] * frame.shape[1] // _PIXELS))
    pixels = frame[::step, ::step].reshape(-1, frame.shape[2]).astype(np.float64)
    black, white = levels
    return (pixels.mean(0) - black) / (white - black), pixels.std(0) / (white - black)


def _ranges(values: Sequence[npt.NDArray[np.float64]]) -> tuple[Range, ...]:
    """Smallest and largest value of each channel, to four digits."""
    stacked = np.stack(values)
    pairs = zip(stacked.min(0), stacked.max(0), strict=True)
    return tuple((round(float(low), 4), round(float(high), 4)) for low, high in pairs)


def _widened(low: float, high: float) -> Range:
    return low - _MEAN, high + _MEAN


def _stretched(low: float, high: float) -> Range:
    return low / _DEVIATION, high * _DEVIATION


def _outside(
    what: str,
    seen: npt.NDArray[np.float64],
    ranges: Sequence[Range],
    tolerated: Callable[[float, float], Range],
) -> str:
    """Says that the mean of the channels is outside their range if one of them is; else ""."""
    if len(seen) == 1:  # gray, where the export had it as RGB
        seen = np.repeat(seen, len(ranges))
    if len(seen) != len(ranges):
        return f"{len(seen)} channels instead of {len(ranges)}"
    bounds = [tolerated(*pair) for pair in ranges]
    if all(low <= value <= high for value, (low, high) in zip(seen, bounds, strict=True)):
        return ""
    low, high = (float(np.mean(part)) for part in zip(*ranges, strict=True))
    return f"{what} {float(seen.mean()):.2f} instead of {low:.2f} to {high:.2f} (of 0 to 1)"
