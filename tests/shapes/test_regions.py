"""Regions and polygons, against masks and against pycocotools, which fills polygons on its own."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from edgeunet.errors import UsageError
from edgeunet.metrics import Mask
from edgeunet.shapes.regions import Points, labelled, polygons_of, regions_of
from support.masks import LEGEND

masks = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([0, 0, 1, 1, 2, 255]),
)


def even_odd(rings: list[Points], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Pixels whose centres lie inside: to their left is an odd number of vertical sides."""
    crossings = np.zeros((size[0], size[1] + 1), int)
    for ring in rings:
        for (x, y), (next_x, next_y) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            assert (x == next_x) != (y == next_y), "every side is upright or level"
            crossings[min(y, next_y) : max(y, next_y), x] += 1
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1


def filled_by_coco(outline: Points, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    (part,) = coco.frPyObjects([outline.astype(float).ravel().tolist()], *size)
    return np.asarray(coco.decode(part)).astype(bool)


def enclosed(ring: Points) -> float:
    """Area inside a ring (shoelace formula), negative if it runs the other way round."""
    x, y = ring.astype(float).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


@given(mask=masks)
def test_polygons_filled_again_are_the_mask(mask: Mask) -> None:
    polygons = polygons_of(mask, LEGEND, background=True)
    back = np.full(mask.shape, 255, np.uint8)
    for polygon in polygons:
        inside = even_odd([polygon.outline, *polygon.holes], mask.shape)
        by_coco = filled_by_coco(polygon.outline, mask.shape)
        for hole in polygon.holes:
            by_coco &= ~filled_by_coco(hole, mask.shape)
        np.testing.assert_array_equal(by_coco, inside)
        assert (back[inside] == 255).all(), "two polygons in one pixel"
        back[inside] = polygon.class_id
        outer, *holes = [enclosed(ring) for ring in (polygon.outline, *polygon.holes)]
        assert all(hole * outer < 0 for hole in holes), "holes run the other way round"
        assert abs(outer + sum(holes)) == polygon.area == inside.sum()
    np.testing.assert_array_equal(back, mask)
    assert [vars(region) for region in regions_of(mask, LEGEND, background=True)] == [
        {key: value for key, value in vars(each).items() if key not in ("outline", "holes")}
        for each in polygons
    ]


def flooded(mask: Mask, start: tuple[int, int]) -> set[tuple[int, int]]:
    """Pixels (row, column) of one class that can be reached by steps to the eight neighbours."""
    reached, left = {start}, [start]
    while left:
        row, column = left.pop()
        for y in range(max(0, row - 1), min(mask.shape[0], row + 2)):
            for x in range(max(0, column - 1), min(mask.shape[1], column + 2)):
                if (y, x) not in reached and mask[y, x] == mask[start]:
                    reached.add((y, x))
                    left.append((y, x))
    return reached


@given(mask=masks, confidence=st.integers(0, 2**32 - 1), min_area=st.integers(1, 4))
def test_regions_are_what_a_flood_reaches(mask: Mask, confidence: int, min_area: int) -> None:
    certain = np.random.default_rng(confidence).integers(0, 256, mask.shape).astype(np.uint8)
    labels, regions = labelled(mask, LEGEND, min_area=min_area, confidence=certain)
    unseen = {tuple(map(int, at)) for at in np.argwhere((mask == 1) | (mask == 2))}
    expected = []
    while unseen:
        pixels = flooded(mask, min(unseen))
        unseen -= pixels
        if len(pixels) >= min_area:
            expected.append(pixels)
    assert len(regions) == len(expected)
    for pixels in expected:
        rows, columns = np.array(sorted(pixels)).T
        (number,) = set(labels[rows, columns].tolist())
        region = regions[number - 1]
        assert (labels == number).sum() == region.area == len(pixels)
        assert {region.label} == {LEGEND.classes[id_] for id_ in mask[rows, columns]}
        x, y, width, height = region.box
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
        assert region.centroid == pytest.approx((columns.mean() + 0.5, rows.mean() + 0.5))
        assert region.confidence == pytest.approx(certain[rows, columns].mean() / 255)
    keys = [(each.class_id, each.box[1], each.box[0]) for each in regions]
    assert keys == sorted(keys)


@given(mask=masks, tolerance=st.sampled_from([0.5, 1.0, 3.0]))
def test_corners_left_out_lie_within_the_tolerance(mask: Mask, tolerance: float) -> None:
    exact, fewer = polygons_of(mask, LEGEND), polygons_of(mask, LEGEND, tolerance=tolerance)
    assert len(exact) == len(fewer)
    for a, b in zip(exact, fewer, strict=True):
        assert (a.area, a.box) == (b.area, b.box)
        for ring, simple in zip((a.outline, *a.holes), (b.outline, *b.holes), strict=True):
            assert 3 <= len(simple) <= len(ring)
            assert {tuple(each) for each in simple} <= {tuple(each) for each in ring}
            assert max(distance(point, simple) for point in ring) <= tolerance + 1e-6


def distance(point: Points, ring: Points) -> float:
    """From a point to the nearest side of a ring."""
    found = math.inf
    for start, end in zip(ring.astype(float), np.roll(ring, -1, axis=0), strict=True):
        along = end - start
        share = np.clip((point - start) @ along / (along @ along), 0, 1)
        found = min(found, float(np.hypot(*(point - start - share * along))))
    return found


def test_staircase_loses_corners_with_a_tolerance() -> None:
    mask = np.tril(np.ones((20, 20), np.uint8))
    (exact,), (fewer,) = polygons_of(mask, LEGEND), polygons_of(mask, LEGEND, tolerance=1)
    assert (len(exact.outline), len(fewer.outline)) == (42, 3)


def test_no_region_without_a_class() -> None:
    mask = np.full((4, 6), 255, np.uint8)
    assert regions_of(mask, LEGEND, background=True) == []
    assert polygons_of(np.zeros((4, 6), np.uint8), LEGEND) == []
    assert labelled(mask, LEGEND)[0].max() == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"min_area": 0}, "min_area is 0; expected 1 pixel"),
        ({"tolerance": -1.0}, "tolerance is -1.0; expected 0 pixels"),
        ({"tolerance": math.nan}, "tolerance is nan"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, float], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        polygons_of(np.zeros((4, 6), np.uint8), LEGEND, **arguments)  # type: ignore[arg-type]
