"""The lines of a ROC plot, in colours that can be seen on light and dark pages."""

from __future__ import annotations

from dataclasses import dataclass

_PAGES = (1.0, 0.006)
"""Relative luminance of a light and a dark page."""
_CONTRAST = 1.8
"""A line with less contrast to either page gets a rim in the colour of the text."""


@dataclass(frozen=True)
class Roc:
    """One line of the plot.

    curve, chosen: corners of the line, and the chosen threshold, as (false-open rate, open rate)
    in 0..1. auc: area under the curve.
    """

    name: str
    colour: tuple[int, int, int]
    curve: tuple[tuple[float, float], ...]
    chosen: tuple[float, float]
    auc: float

    @property
    def visible(self) -> bool:
        """Whether the colour stands out from light and from dark pages.

        WCAG 2.1: relative luminance L, contrast (L1 + 0.05) / (L2 + 0.05).
        """
        red, green, blue = (_linear(value / 255) for value in self.colour)
        luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        pairs = [sorted((luminance, page)) for page in _PAGES]
        return all((high + 0.05) / (low + 0.05) >= _CONTRAST for low, high in pairs)

    def strokes(self, width: float) -> list[tuple[str, float]]:
        """Colours and widths (pixels) to draw a line with, one over the other."""
        rim = [] if self.visible else [("currentColor", width + 1.6)]
        return [*rim, (f"rgb{self.colour}", width)]


def _linear(value: float) -> float:
    """Linear intensity of an sRGB value, both 0..1."""
    return float(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)
