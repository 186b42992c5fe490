"""Labels that are drawn: polygons and run lengths, which become class ids when they are read.

A polygon's coordinates are x, y in pixels, where (0, 0) is the upper left corner of the first
pixel. It is filled as COCO's `maskApi.c` fills it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DatasetError, MissingDependencyError, SourceError, printable
from ...metrics import Mask
from ..headers import opened, orientation_of, probe
from ..images import read_bytes
from .base import counted

Points = npt.NDArray[np.float64]
Inside = npt.NDArray[np.bool_]

_NEAR = 1.0  # pixels outside the image that count as rounding


@dataclass(frozen=True)
class Shape:
    """A region of one class: the union of its parts.

    polygons: (N, 2) corners each. runs: lengths of runs, outside and inside in turn, column by
    column from the top left, of the whole image. pieces: masks (h, w) with their row and column.
    below: drawn before all others.
    """

    class_id: int
    polygons: tuple[Points, ...] = ()
    runs: npt.NDArray[np.int64] | None = None
    pieces: tuple[tuple[int, int, Inside], ...] = ()
    below: bool = False


@dataclass(frozen=True)
class Drawing:
    """Labels of an image that are drawn.

    path: the file with the shapes. image: the file that tells the size. size: (height, width) that
    `path` tells, None if it does not. shapes: in the order of drawing. scaled: coordinates are
    shares of width and height. smaller_on_top: of shapes that overlap, the smaller one is seen;
    else the later one.
    """

    path: Path
    image: Path
    size: tuple[int, int] | None = None
    shapes: tuple[Shape, ...] = field(default=(), repr=False)
    background: int = 0
    scaled: bool = False
    smaller_on_top: bool = False

    def read(self) -> Mask:
        """Class ids (H, W).

        Raises:
            DatasetError: the image has another size than the labels say, or runs do not fill it.
            SourceError: the image cannot be read.
        """
        height, width = size = upright_size(self.image)
        if self.size is not None and self.size != size:
            raise DatasetError(
                f"{printable(self.path)} says that {printable(self.image.name)} is "
                f"{self.size[0]}x{self.size[1]}; it is {height}x{width}. Was it resized or turned "
                "after it was labelled?"
            )
        mask = np.full(size, self.background, np.uint8)
        filled = [_Filled(shape, size, self) for shape in self.shapes]
        if self.smaller_on_top:
            filled.sort(key=lambda each: -each.area)
        for each in sorted(filled, key=lambda each: not each.shape.below):
            mask[each.inside()] = each.shape.class_id
        return mask


class _Filled:
    """A shape on an image, compressed: an image may have many."""

    def __init__(self, shape: Shape, size: tuple[int, int], labels: Drawing) -> None:
        self.shape, self._size = shape, size
        scale = size[::-1] if labels.scaled else (1, 1)
        self._parts: list[Any] = []
        self.area = 0
        for polygon in shape.polygons:
            points = polygon * scale
            _check_extent(points, size, labels.path)
            part = fill(points, size)
            self._parts.append(part)
            self.area += int(coco().area(part))
        if shape.runs is not None:
            if shape.runs.sum() != size[0] * size[1]:
                raise DatasetError(
                    f"{printable(labels.path)}: run lengths of {printable(labels.image.name)} "
                    f"make {shape.runs.sum()} pixels; expected {size[0]}x{size[1]}."
                )
            self.area += int(shape.runs[1::2].sum())
        self.area += sum(int(piece.sum()) for *_, piece in shape.pieces)

    def inside(self) -> Inside:
        """The pixels (H, W) of the shape."""
        found = np.zeros(self._size, bool)
        for part in self._parts:
            found |= coco().decode(part).astype(bool)
        runs = self.shape.runs
        if runs is not None:
            filled = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
            found |= filled.reshape(self._size[::-1]).T
        for row, column, piece in self.shape.pieces:
            top, left = max(0, row), max(0, column)
            part = piece[top - row :, left - column :]
            window = found[top : row + piece.shape[0], left : column + piece.shape[1]]
            window |= part[: window.shape[0], : window.shape[1]]
        return found


def fill(points: Points, size: tuple[int, int]) -> Any:
    """A filled polygon as pycocotools holds it, without what lies outside the image (H, W)."""
    # Below 0, pycocotools rounds in another way, so such a polygon is filled on a larger canvas.
    left, top = (max(0, -int(np.floor(low))) for low in points.min(axis=0))
    height, width = size
    corners = (points + np.array([left, top])).ravel().tolist()
    (part,) = coco().frPyObjects([corners], height + top, width + left)
    if left or top:
        part = coco().encode(np.asfortranarray(coco().decode(part)[top:, left:]))
    return part


def _check_extent(points: Points, size: tuple[int, int], path: Path) -> None:
    """Bound the work of filling, which walks along every edge and may need a larger canvas."""
    far = max(-points.min(axis=0) / size[::-1])
    if far > 1 or max(points.max(axis=0) / size[::-1]) > 2:
        raise DatasetError(
            f"{printable(path)} holds a polygon with a corner more than a side of its image away "
            f"from it, which is {size[0]}x{size[1]}. Was the image resized after it was labelled?"
        )
    steps = np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum()
    if not np.isfinite(steps) or steps > 4 * size[0] * size[1] + 64 * sum(size):
        raise DatasetError(
            f"{printable(path)} holds a polygon whose outline is {steps:g} pixels long in an image "
            f"of {size[0]}x{size[1]}. Correct its coordinates."
        )


def upright_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image as it is seen, from its header; SourceError if it has none."""
    content = read_bytes(path)
    try:
        header = probe(content)
    except SourceError as error:
        raise SourceError(f"{printable(path)}: {error}") from None
    turned = orientation_of(content, opened(content)) >= 5
    return (header.width, header.height) if turned else (header.height, header.width)


def coco() -> Any:
    """pycocotools.mask, which fills polygons."""
    try:
        return importlib.import_module("pycocotools.mask")
    except ImportError:
        raise MissingDependencyError("pycocotools", "quantize") from None


@dataclass
class Outlines:
    """Checks polygons as they are read, and counts what a user must know of them."""

    path: Path
    clipped: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def add(
        self, points: object, size: tuple[float, float] | None, where: Callable[[], str]
    ) -> Points | None:
        """The corners (N, 2); None if they cover nothing: fewer than three, or all on a border.

        Args:
            points: (x, y) pairs, or x and y in turn. size: (height, width) of the image, (1, 1) for
                shares of it, None if it is unknown. where: names the polygon, for messages.

        Raises:
            DatasetError: no numbers, or a polygon outside the image.
        """
        try:
            corners = np.asarray(points, np.float64).reshape(-1, 2)
        except (TypeError, ValueError):
            corners = np.full((1, 2), np.nan)
        if not np.isfinite(corners).all():
            raise DatasetError(
                f"{printable(self.path)}: {where()} has no list of x and y in pixels: "
                f"{str(points)[:60]}."
            )
        if len(corners) < 3:
            self.empty.append(where())
            return None
        if size is not None and not self._inside(corners, size, where):
            self.empty.append(where())
            return None
        return corners

    def _inside(self, corners: Points, size: tuple[float, float], where: Callable[[], str]) -> bool:
        """Whether a part is inside the image: what labels at its border leaves may be a line."""
        height, width = size
        if min(size) <= 0:
            raise DatasetError(
                f"{printable(self.path)}: the image of {where()} is said to be {height:g}x"
                f"{width:g}; expected at least one pixel. Correct its height and width."
            )
        (left, top), (right, bottom) = corners.min(0), corners.max(0)
        beyond = max(-left / width, -top / height, right / width - 1, bottom / height - 1)
        if right < 0 or bottom < 0 or left > width or top > height or beyond > 1:
            shares = size == (1, 1)
            advice = (
                "expected shares of width and height, 0 to 1"
                if shares
                else f"its image is {height:g}x{width:g}: was it resized after it was labelled?"
            )
            raise DatasetError(
                f"{printable(self.path)}: {where()} lies outside the image: x from {left:g} to "
                f"{right:g}, y from {top:g} to {bottom:g}; {advice}"
                + ("." if shares else " Correct the polygon, or remove it.")
            )
        near = _NEAR if size != (1, 1) else 0.005
        if min(left, top) < -near or right > width + near or bottom > height + near:
            self.clipped.append(where())
        return bool(right > 0 and bottom > 0 and left < width and top < height)

    def notices(self) -> list[str]:
        """What was clipped, and what covers nothing."""
        return outline_notices([self])


def outline_notices(outlines: Iterable[Outlines]) -> list[str]:
    """What several files together clipped, and what covers nothing."""
    clipped: list[str] = []
    empty: list[str] = []
    for each in outlines:
        clipped += each.clipped
        empty += each.empty
    told = []
    for names, what in (
        (clipped, "clipped at the border of the image"),
        (empty, "of fewer than three corners or on a border, which cover nothing"),
    ):
        if names:
            more = ", ..." if len(names) > 1 else ""
            told.append(f"{counted(len(names), 'polygon')} {what} ({names[0]}{more})")
    return told


def box(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    """Corners of a rectangle."""
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def ellipse(x: float, y: float, across: float, down: float) -> list[list[float]]:
    """Corners of an ellipse by its centre and its radii, close enough to look round."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return [[x + across * np.cos(each), y + down * np.sin(each)] for each in angles]


def runs_of(text: str) -> npt.NDArray[np.int64]:
    """Run lengths that COCO writes as text; ValueError if it is none.

    Characters from "0" hold 6 bits each, 5 of a number and whether it continues. From the third
    number on they are differences to the last but one; see `rleFrString` in COCO's maskApi.c.

    Example:
        >>> from edgeunet.data.layouts.drawing import runs_of
        >>> runs_of("52203")
        array([5, 2, 2, 2, 5])
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"{character!r} is no character of run lengths")
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value |= -1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return check_runs(runs)


def check_runs(runs: Sequence[object]) -> npt.NDArray[np.int64]:
    """Run lengths as an array; ValueError if one is no whole number from 0."""
    if not all(type(each) is int and 0 <= each < 2**31 for each in runs):
        raise ValueError("run lengths are whole numbers from 0")
    return np.asarray(runs, np.int64)
