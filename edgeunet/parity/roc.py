"""ROC curves of a gate as inline SVG, for light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Colour = tuple[int, int, int]

_SIDE, _LEFT, _TOP, _WIDTH = 320, 58, 12, 660  # of the plot and the picture, pixels
_LEGEND, _ROW = _LEFT + _SIDE + 32, 24
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_PAGES = (1.0, 0.006)  # relative luminance of a light and a dark page
_CONTRAST = 1.8
"""Lines of less contrast with either page get a rim in the colour of the text."""


@dataclass(frozen=True)
class Roc:
    """One line: its corners and the chosen threshold as (false-open rate, open rate), 0..1."""

    name: str
    colour: Colour
    curve: tuple[tuple[float, float], ...]
    chosen: tuple[float, float]
    auc: float


def roc_svg(rocs: Sequence[Roc]) -> str:
    """`<svg>` of the curves, with a marker at each chosen threshold and the AUC in the legend."""
    height = max(_TOP + _SIDE + 48, _TOP + _ROW * (len(rocs) + 2))
    # Lines that coincide show as bands: those below are the wider ones.
    widths = [2.0 + min(1.0 * (len(rocs) - 1 - index), 3.0) for index in range(len(rocs))]
    lines = [_line(roc, width) for roc, width in zip(rocs, widths, strict=True)]
    markers = [_marker(roc.colour, *_at(*roc.chosen)) for roc in rocs]
    legend = [_entry(roc, _TOP + 12 + _ROW * index) for index, roc in enumerate(rocs)]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img" '
        'aria-label="ROC curves of the gate" style="max-width:100%;height:auto" '
        f'font-size="13" fill="currentColor">{_axes()}{"".join(lines + markers + legend)}'
        f"{_key(_TOP + 12 + _ROW * len(rocs))}</svg>"
    )


def visible(colour: Colour) -> bool:
    """Whether a line of the colour stands out from light and from dark pages.

    WCAG 2.1: relative luminance L, contrast (L1 + 0.05) / (L2 + 0.05).
    """
    red, green, blue = (_linear(value / 255) for value in colour)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    pairs = [sorted((luminance, page)) for page in _PAGES]
    return all((high + 0.05) / (low + 0.05) >= _CONTRAST for low, high in pairs)


def _linear(value: float) -> float:
    return float(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)


def _at(false_open: float, opened: float) -> tuple[float, float]:
    """Position in the picture, pixels."""
    return _LEFT + _SIDE * false_open, _TOP + _SIDE * (1 - opened)


def _axes() -> str:
    right, bottom = _LEFT + _SIDE, _TOP + _SIDE
    parts = []
    for tick in _TICKS:
        x, y = _at(tick, tick)
        parts += [
            f'<path d="M{x:g} {_TOP}V{bottom}M{_LEFT} {y:g}H{right}" stroke="currentColor" '
            'stroke-opacity=".15"/>',
            f'<text x="{x:g}" y="{bottom + 18}" text-anchor="middle">{tick:.0%}</text>',
            f'<text x="{_LEFT - 8}" y="{y + 4:g}" text-anchor="end">{tick:.0%}</text>',
        ]
    middle = _TOP + _SIDE / 2
    parts += [
        f'<path d="M{_LEFT} {bottom}L{right} {_TOP}" stroke="currentColor" stroke-opacity=".4" '
        'stroke-dasharray="4 4"/>',
        f'<text x="{_LEFT + _SIDE / 2:g}" y="{bottom + 40}" text-anchor="middle">open on images '
        "without the class</text>",
        f'<text x="14" y="{middle:g}" text-anchor="middle" transform="rotate(-90 14 {middle:g})">'
        "open on images with it</text>",
    ]
    return "".join(parts)


def _line(roc: Roc, width: float) -> str:
    points = " ".join("{:.1f},{:.1f}".format(*_at(*corner)) for corner in roc.curve)
    return _stroke(f'<polyline points="{points}"', roc.colour, width)


def _stroke(element: str, colour: Colour, width: float) -> str:
    ends = 'fill="none" stroke-linejoin="round"'
    rim = ""
    if not visible(colour):
        rim = f'{element} {ends} stroke="currentColor" stroke-width="{width + 1.6:g}"/>'
    return f'{rim}{element} {ends} stroke="rgb{colour}" stroke-width="{width:g}"/>'


def _marker(colour: Colour, x: float, y: float) -> str:
    """A dot whose rim, the page's colour or the text's, sets it off its own line."""
    rim = "Canvas" if visible(colour) else "currentColor"
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" fill="rgb{colour}" stroke="{rim}" '
        'stroke-width="2"/>'
    )


def _entry(roc: Roc, y: float) -> str:
    swatch = _stroke(f'<path d="M{_LEGEND} {y:g}h24"', roc.colour, 3)
    return (
        f'{swatch}<text x="{_LEGEND + 34}" y="{y + 4:g}">{escape(roc.name)}, AUC {roc.auc:.3f}'
        "</text>"
    )


def _key(y: float) -> str:
    return (
        f'<circle cx="{_LEGEND + 12}" cy="{y:g}" r="4.5" fill="none" stroke="currentColor" '
        f'stroke-width="2"/><text x="{_LEGEND + 34}" y="{y + 4:g}">at the threshold</text>'
    )
