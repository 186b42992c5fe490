"""Connected regions of a mask, as numbers and as polygons with holes.

Coordinates are x, y in pixels of the mask, which has the size of its frame. (0, 0) is the upper
left corner of the first pixel, so that pixel (x, y) covers x to x + 1 and y to y + 1, as in COCO.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..metrics import Mask

Points = npt.NDArray[np.int32]
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Legend:
    """Names and RGB colours of the classes, by id. A black class is the background."""

    classes: Sequence[str]
    palette: Sequence[tuple[int, int, int]]

    def ids(self, *, background: bool = False) -> list[int]:
        """Ids of the classes, without the background unless it is asked for."""
        colours = zip(range(len(self.classes)), self.palette, strict=True)
        return [class_id for class_id, colour in colours if background or any(colour)]


@dataclass(frozen=True)
class Region:
    """Pixels of one class that touch each other at a side or at a corner.

    class_id, label: the class and its name. area: pixels. box: x, y, width and height. centroid:
    x and y of the mean. confidence: mean of the pixels', 0 to 1; None if it was not computed.
    """

    class_id: int
    label: str
    area: int
    box: tuple[int, int, int, int]
    centroid: tuple[float, float]
    confidence: float | None = None


@dataclass(frozen=True)
class Polygon(Region):
    """A region with its outline: (N, 2) corners x, y, and those of each hole, not closed.

    An outline passes a corner twice if pixels meet only there.
    """

    outline: Points = field(kw_only=True, repr=False)
    holes: tuple[Points, ...] = field(kw_only=True, repr=False, default=())


def regions_of(
    mask: Mask,
    legend: Legend,
    *,
    background: bool = False,
    min_area: int = 1,
    confidence: npt.NDArray[np.uint8] | None = None,
) -> list[Region]:
    """Regions by class, from the top down and from left to right.

    Ids that are no class, such as 255, are in none.

    Args:
        mask: class ids (H, W). background: also those of black classes. min_area: in pixels;
            smaller ones are left out. confidence: (H, W), 255 for 1.

    Raises:
        UsageError: min_area below 1.

    Example:
        >>> from edgeunet.shapes.regions import Legend, regions_of
        >>> legend = Legend(["background", "cell"], [(0, 0, 0), (255, 0, 0)])
        >>> (region,) = regions_of(np.array([[0, 1, 1]], np.uint8), legend)
        >>> region.label, region.area, region.box, region.centroid
        ('cell', 2, (1, 0, 2, 1), (2.0, 0.5))
    """
    return labelled(mask, legend, background=background, min_area=min_area, confidence=confidence)[
        1
    ]


def polygons_of(
    mask: Mask,
    legend: Legend,
    *,
    background: bool = False,
    min_area: int = 1,
    tolerance: float = 0.0,
    confidence: npt.NDArray[np.uint8] | None = None,
) -> list[Polygon]:
    """The same regions in the same order, with their outlines.

    With a tolerance of 0 the outlines run along the sides of pixels. Filled by the even-odd rule at
    the centres of pixels, or as pycocotools fills them with the holes taken out, they give exactly
    the region; so does the area that they enclose. With more, they have fewer corners, and may
    cross themselves or a neighbour. Box, area and centroid are those of the pixels.

    Args:
        tolerance: largest distance in pixels of a corner left out to the outline that is given.
            Others: see `regions_of`.

    Raises:
        UsageError: min_area below 1, or a tolerance below 0.

    Example:
        >>> from edgeunet.shapes.regions import Legend, polygons_of
        >>> legend = Legend(["background", "cell"], [(0, 0, 0), (255, 0, 0)])
        >>> (polygon,) = polygons_of(np.array([[0, 1, 1]], np.uint8), legend)
        >>> sorted(polygon.outline.tolist())
        [[1, 0], [1, 1], [3, 0], [3, 1]]
    """
    if not tolerance >= 0:  # NaN too
        raise UsageError(f"tolerance is {tolerance}; expected 0 pixels or more.")
    labels, regions = labelled(
        mask, legend, background=background, min_area=min_area, confidence=confidence
    )
    drawn: dict[int, tuple[Points, tuple[Points, ...]]] = {}
    for class_id in sorted({region.class_id for region in regions}):
        for outline, holes, (x, y) in _outlines(mask == class_id):
            rings = [_simplified(ring, tolerance) for ring in (outline, *holes)]
            drawn[int(labels[y, x])] = rings[0], tuple(rings[1:])
    return [
        Polygon(**vars(region), outline=drawn[number][0], holes=drawn[number][1])
        for number, region in enumerate(regions, 1)
    ]


def labelled(
    mask: Mask,
    legend: Legend,
    *,
    background: bool = False,
    min_area: int = 1,
    confidence: npt.NDArray[np.uint8] | None = None,
) -> tuple[Labels, list[Region]]:
    """The regions and a map (H, W) of their numbers from 1; 0 is in none of them.

    Arguments and errors are those of `regions_of`.
    """
    if min_area < 1:
        raise UsageError(f"min_area is {min_area}; expected 1 pixel or more.")
    labels = np.zeros(mask.shape, np.int32)
    found: list[Region] = []
    numbers: list[int] = []
    there = np.bincount(mask.ravel(), minlength=256)
    before = 0
    for class_id in legend.ids(background=background):
        if not there[class_id]:
            continue
        inside, left, top = _cropped(mask == class_id)
        count, part, stats, centroids = cv2.connectedComponentsWithStats(inside, connectivity=8)
        window = labels[top : top + part.shape[0], left : left + part.shape[1]]
        np.add(part, before, out=window, where=part > 0)
        for number in range(1, count):
            x, y, width, height, area = map(int, stats[number])
            if area >= min_area:
                middle = float(centroids[number, 0]) + left, float(centroids[number, 1]) + top
                box = (x + left, y + top, width, height)
                centroid = (middle[0] + 0.5, middle[1] + 0.5)
                found.append(Region(class_id, legend.classes[class_id], area, box, centroid))
                numbers.append(before + number)
        before += count - 1
    order = sorted(range(len(found)), key=lambda at: _place(found[at]))
    table = np.zeros(before + 1, np.int32)
    table[[numbers[at] for at in order]] = np.arange(1, len(order) + 1)
    labels = table[labels]
    return labels, _with_confidence([found[at] for at in order], labels, confidence)


def _place(region: Region) -> tuple[Any, ...]:
    """Sorts regions the same way however OpenCV numbers them."""
    x, y, *size = region.box
    return region.class_id, y, x, size, region.area, region.centroid


def _cropped(inside: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.uint8], int, int]:
    """The part (h, w) that holds all that is inside, and its left and top."""
    pixels = inside.view(np.uint8)
    left, top, width, height = cv2.boundingRect(pixels)
    return pixels[top : top + height, left : left + width], left, top


def _with_confidence(
    regions: list[Region], labels: Labels, confidence: npt.NDArray[np.uint8] | None
) -> list[Region]:
    if confidence is None:
        return regions
    sums = np.bincount(labels.ravel(), weights=confidence.ravel(), minlength=len(regions) + 1)
    return [
        Region(**{**vars(region), "confidence": float(total) / region.area / 255})
        for region, total in zip(regions, sums[1:], strict=True)
    ]


def _outlines(
    inside: npt.NDArray[np.bool_],
) -> Iterator[tuple[Points, tuple[Points, ...], tuple[int, int]]]:
    """Outline and holes of each region, and x and y of one of its pixels."""
    pixels, left, top = _cropped(inside)
    # OpenCV's contours run through the centres of pixels. Where each pixel has become 2x2, the
    # corner of the pixels is the one next to the contour: left and above of an even place, right
    # and below of an odd one, also in holes, whose contours lie on the pixels around them.
    twice = cv2.resize(pixels, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, found = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if found is None:
        return
    offset = np.array([left, top], np.int32)
    following, _, first_hole, outer = range(4)
    tree = found[0]
    for index, contour in enumerate(contours):
        if tree[index, outer] >= 0:
            continue
        holes = []
        hole = tree[index, first_hole]
        while hole >= 0:
            holes.append(_corners(contours[hole]) + offset)
            hole = tree[hole, following]
        x, y = contour[0, 0] // 2 + offset
        yield _corners(contour) + offset, tuple(holes), (int(x), int(y))


def _corners(contour: npt.NDArray[Any]) -> Points:
    """Corners (N, 2) of the pixels along a contour (M, 1, 2) of pixels that are 2x2."""
    points: Points = (contour[:, 0] + 1) // 2
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    x, y = (points - np.roll(points, 1, axis=0)).T
    next_x, next_y = (np.roll(points, -1, axis=0) - points).T
    turning: Points = points[x * next_y != y * next_x]
    return turning


def _simplified(ring: Points, tolerance: float) -> Points:
    if not tolerance:
        return ring
    fewer: Points = np.asarray(cv2.approxPolyDP(ring, tolerance, True), np.int32)[:, 0]
    return fewer if len(fewer) > 2 else ring  # two corners enclose nothing
