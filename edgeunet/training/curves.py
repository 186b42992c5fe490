"""Curves over the epochs of a run, as positions in an SVG picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 560.0, 260.0
PLOT = (52.0, 10.0, WIDTH - 14.0, HEIGHT - 40.0)
"""Left, top, right and bottom of the axes."""

_MOST = 6  # steps of an axis
_ROOM = 0.06  # share of the values' range above and below them


@dataclass(frozen=True)
class Dot:
    """A value at its place. best: whether it is the one to keep."""

    x: float
    y: float
    epoch: int
    value: float
    best: bool


@dataclass(frozen=True)
class Curve:
    """A curve with its axes, `WIDTH` x `HEIGHT`. ticks: (position, text)."""

    title: str
    dots: tuple[Dot, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]

    @property
    def description(self) -> str:
        """In words, for whoever does not see it."""
        first, last = self.dots[0], self.dots[-1]
        told = f"From {first.value:.4g} in epoch {first.epoch} to {last.value:.4g} in {last.epoch}."
        best = [f" Best: {dot.value:.4g} in epoch {dot.epoch}." for dot in self.dots if dot.best]
        return told + "".join(best)


def draw(
    title: str, values: Sequence[tuple[int, float]], epochs: int, *, best: int | None = None
) -> Curve:
    """The curve of values by epoch, at least one.

    Args:
        epochs: last one of the axis, which begins with 1. best: that of the value to mark.

    Example:
        >>> from edgeunet.training.curves import draw
        >>> [text for _, text in draw("loss", [(1, 0.9), (2, 0.4), (3, 0.3)], 3).y_ticks]
        ['0.4', '0.6', '0.8']
    """
    left, top, right, bottom = PLOT
    heights = [value for _, value in values]
    first, last = _wide(1, epochs)
    low, high = _wide(min(heights), max(heights))
    room = _ROOM * (high - low)
    low, high = low - room, high + room

    def across(epoch: float) -> float:
        return left + (epoch - first) / (last - first) * (right - left)

    def up(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    return Curve(
        title,
        tuple(Dot(across(n), up(value), n, value, n == best) for n, value in values),
        tuple((across(n), f"{n:g}") for n in ticks(first, last) if n == round(n)),
        tuple((up(value), f"{value:g}") for value in ticks(low, high)),
    )


def ticks(low: float, high: float, most: int = _MOST) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two values, in at most so many steps.

    Example:
        >>> from edgeunet.training.curves import ticks
        >>> ticks(3, 47)
        [10.0, 20.0, 30.0, 40.0]
    """
    rough = (high - low) / most
    power = math.floor(math.log10(rough))
    exponent, factor = next(
        (exponent, factor)
        for exponent in (power, power + 1)
        for factor in (1, 2, 5)
        if factor * 10.0**exponent >= rough
    )
    step = factor * 10.0**exponent
    # Rounded, since a multiple of 0.1 has other bits than the number that is written so.
    multiples = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [round(step * n, max(0, -exponent)) for n in multiples]


def _wide(low: float, high: float) -> tuple[float, float]:
    """The two values, or others around them if they are the same."""
    return (low, high) if high > low else (low - 0.5, high + 0.5)
