"""The picture of speed and accuracy: where its points lie, and labels that do not overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .report import Row, Setting, front, loss

_LETTER, _BOLD, _LINE = 6.7, 0.8, 15.0  # pixels of a letter, more if bold, and of a line
_RADIUS = 5.0
_SHAPES = {"fp32": "circle", "fp16": "square", "bf16": "diamond", "int8": "triangle"}
_STEPS = (
    (1.0, 2.0, 5.0),
    (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0),
    (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 2.4, 2.6, 2.8, *(0.5 * n for n in range(6, 20))),
    tuple(0.1 * n for n in range(10, 100)),
)
"""Of an axis, within a power of ten; the first that give enough numbers."""
_FEWEST = 3  # numbers on an axis
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 14.0, 8.0, 46.0
_HEADROOM = 44.0  # above the closest rows, for labels: many rows lose nothing

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Label:
    """Text whose baseline begins at (x, y), with a line to its point if it is not beside it."""

    text: str
    x: float
    y: float
    line: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Point:
    """A row. series: number of its engine, for its colour. shape: of its precision.

    label: None if there is no room; the table has it.
    """

    row: Row
    x: float
    y: float
    series: int
    shape: str
    label: Label | None
    on_front: bool
    used: bool


@dataclass(frozen=True)
class Picture:
    """A drawing of so many pixels.

    ticks: (position, text). line: corners of the front. limit: position of the time to keep below.
    """

    width: float
    height: float
    plot: Box
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    y_title: str
    points: tuple[Point, ...]
    line: tuple[tuple[float, float], ...]
    shapes: tuple[tuple[str, str], ...]
    limit: float | None = None

    @property
    def description(self) -> str:
        """In words, for whoever does not see it."""
        on_front = [point.row for point in self.points if point.on_front]
        told = ", ".join(f"{row.title} with {row.p50:.1f} ms" for row in on_front)
        return f"{len(self.points)} rows by milliseconds a frame and what they lose. Front: {told}."

    @property
    def has_peers(self) -> bool:
        """Whether a point is another project's tool."""
        return any(point.row.peer for point in self.points)

    @property
    def unlabelled(self) -> int:
        """Number of points without a label."""
        return sum(point.label is None for point in self.points)


def draw(
    setting: Setting, use: str, *, width: float, height: float, limit: float | None = None
) -> Picture | None:
    """The picture of a setting; None without rows that have both time and accuracy.

    Args:
        use: title of the row to use. limit: milliseconds to keep below, which are marked.
    """
    rows = [row for row in setting.timed if loss(row) is not None]
    if not rows:
        return None
    plot = (_LEFT, _TOP, width - _RIGHT, height - _BOTTOM)
    times = [row.p50 or 0.0 for row in rows]
    spread = times if limit is None else [*times, limit]
    losses = [loss(row) or 0.0 for row in rows]
    low, high = min(spread) / 1.15, max(spread) * 1.15
    across = _scale(math.log, low, high, plot[0], plot[2])
    bottom = max(*losses, 0.02) * 1.15
    top = min(*losses, 0.0)
    down = _scale(_signed_root, top, bottom, plot[1] + _HEADROOM, plot[3])
    places = [(across(time), down(lost)) for time, lost in zip(times, losses, strict=True)]
    on_front = front(rows)
    engines = sorted({row.name.split()[0] for row in rows if not row.peer})
    points_of_front = [places[index] for row in on_front for index in (rows.index(row),)]
    line = tuple(_stairs(points_of_front, plot))
    order = sorted(range(len(rows)), key=lambda index: _importance(rows[index], use, on_front))
    labels = _labels([rows[i].title for i in order], [places[i] for i in order], plot, line, use)
    by_row = dict(zip(order, labels, strict=True))
    points = tuple(
        Point(
            row,
            *places[index],
            series=-1 if row.peer else engines.index(row.name.split()[0]) % 4,
            shape=_SHAPES[row.precision],
            label=by_row[index],
            on_front=row in on_front,
            used=row.title == use,
        )
        for index, row in enumerate(rows)
    )
    by_iou = any(row.iou_lost is not None for row in rows)
    return Picture(
        width,
        height,
        plot,
        tuple(_ticks(_nice(low, high), across, 46)),
        tuple(_ticks([0.0, *_nice(0.005, bottom)], down, 24)),
        "points of mIoU lost" if by_iou else "% of the pixels differ",
        points,
        line,
        tuple((_SHAPES[name], name.upper()) for name in _SHAPES if _has(rows, name)),
        None if limit is None else across(limit),
    )


def _has(rows: Sequence[Row], precision: str) -> bool:
    return any(row.precision == precision for row in rows)


def _importance(row: Row, use: str, on_front: Sequence[Row]) -> tuple[bool, bool, bool, float]:
    """Sorts rows: those that get the best place for their label come first."""
    return row.title != use, row not in on_front, row.peer, row.p50 or 0.0


def _scale(
    bend: Callable[[float], float], low: float, high: float, start: float, stop: float
) -> Callable[[float], float]:
    """A function from values to pixels, linear in the bent values."""
    first, last = bend(low), bend(high)
    return lambda value: start + (bend(value) - first) / (last - first) * (stop - start)


def _signed_root(value: float) -> float:
    """Spreads what is close to 0, where most rows are."""
    return math.copysign(math.sqrt(abs(value)), value)


def _nice(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two positive values; finer ones if these are few."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for steps in _STEPS:
        values = (step * 10.0**exponent for exponent in exponents for step in steps)
        found = [value for value in values if low <= value <= high]
        if len(found) >= _FEWEST:
            break
    return found


def _ticks(
    values: Sequence[float], scale: Callable[[float], float], apart: float
) -> Iterator[tuple[float, str]]:
    """Positions of values that are far enough from each other."""
    last = -math.inf
    for value in values:
        at = scale(value)
        if at - last >= apart:
            yield at, f"{value:g}"
            last = at


def _stairs(points: Sequence[tuple[float, float]], plot: Box) -> Iterator[tuple[float, float]]:
    """Corners of the line that separates what is possible: no row is left of it and above."""
    if not points:
        return
    yield points[0][0], plot[3]
    for index, (x, y) in enumerate(points):
        yield x, y
        yield (points[index + 1][0] if index + 1 < len(points) else plot[2]), y


def _labels(
    texts: Sequence[str],
    places: Sequence[tuple[float, float]],
    plot: Box,
    line: Sequence[tuple[float, float]],
    used: str,
) -> list[Label | None]:
    """A label for each point, in the order of their importance; None if there is no room."""
    taken: list[Box] = [
        (x - _RADIUS - 2, y - _RADIUS - 2, x + _RADIUS + 2, y + _RADIUS + 2) for x, y in places
    ]
    for (x1, y1), (x2, y2) in pairwise(line):
        taken.append((min(x1, x2) - 1, min(y1, y2) - 1, max(x1, x2) + 1, max(y1, y2) + 1))
    found: list[Label | None] = []
    for text, (x, y) in zip(texts, places, strict=True):
        wide = _LETTER * len(text) + (_BOLD * len(text) if text == used else 0)
        for left, middle in _around(x, y, wide):
            box = left - 3, middle - _LINE / 2, left + wide + 3, middle + _LINE / 2
            inside = box[0] >= plot[0] and box[2] <= plot[2] + 10
            inside = inside and box[1] >= 0 and box[3] <= plot[3] - 1
            leader = _leader(x, y, box)
            clear = inside and not any(_overlap(box, other) for other in taken)
            if clear and (leader is not None or _is_closest(box, (x, y), places)):
                taken.append(box)
                found.append(Label(text, left, middle + 4, leader))
                break
        else:
            found.append(None)
    return found


def _around(x: float, y: float, wide: float) -> Iterator[tuple[float, float]]:
    """Left edge and middle of places for a label around a point, the closest ones first."""
    for away in (10.0, 22.0, 36.0, 52.0, 70.0, 90.0, 115.0, 140.0):
        yield x + away, y
        yield x - away - wide, y
        for across in (-wide / 2, -wide / 4, -3 * wide / 4, away / 2, -wide - away / 2):
            yield x + across, y - away - 4
            yield x + across, y + away + 4


def _leader(x: float, y: float, box: Box) -> tuple[float, float, float, float] | None:
    """A line from a point to the closest place of its label; None if they are side by side."""
    at = _nearest(box, (x, y))
    return None if math.dist((x, y), at) < 2 * _RADIUS else (x, y, *at)


def _nearest(box: Box, point: tuple[float, float]) -> tuple[float, float]:
    """The place of a box that is closest to a point."""
    x, y = point
    return min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])


def _is_closest(
    box: Box, point: tuple[float, float], places: Sequence[tuple[float, float]]
) -> bool:
    """Whether no other point is closer to a label than its own, whose name it would seem to be."""
    own = math.dist(point, _nearest(box, point))
    return all(each == point or math.dist(each, _nearest(box, each)) > own + 3 for each in places)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
