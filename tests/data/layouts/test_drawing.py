"""Polygons and run lengths become class ids, as COCO fills them, within bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import pycocotools.mask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.data.layouts.drawing import (
    Drawing,
    Outlines,
    Shape,
    box,
    check_runs,
    ellipse,
    fill,
    runs_of,
    upright_size,
)
from edgeunet.errors import DatasetError, SourceError

SIZE = (20, 30)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), np.zeros((*SIZE, 3), np.uint8))
    return path


def polygon(class_id: int, *corners: list[float], **more: Any) -> Shape:
    return Shape(class_id, (np.array(corners, float),), **more)


def boxed(class_id: int, *edges: float, **more: Any) -> Shape:
    return polygon(class_id, *box(*edges), **more)


def test_later_shape_is_on_top_or_the_smaller_one(image: Path) -> None:
    shapes = (boxed(1, 2, 2, 6, 6), boxed(2, 0, 0, 10, 10))
    later = Drawing(image, image, SIZE, shapes).read()
    assert (later[3, 3], later[0, 0], later[15, 15]) == (2, 2, 0)
    smaller = Drawing(image, image, SIZE, shapes, smaller_on_top=True).read()
    assert (smaller[3, 3], smaller[0, 0]) == (1, 2)
    crowd = boxed(255, 1, 1, 3, 3, below=True)
    below = Drawing(image, image, SIZE, (*shapes, crowd), smaller_on_top=True, background=7).read()
    assert (below[1, 1], below[15, 15]) == (2, 7)


@given(
    corners=st.lists(
        st.tuples(st.floats(-15, 45), st.floats(-15, 35)), min_size=3, max_size=7, unique=True
    )
)
def test_polygon_covers_what_lies_inside_also_across_the_border(
    corners: list[tuple[float, float]],
) -> None:
    points = np.array(corners, np.float32)
    found = pycocotools.mask.decode(fill(points.astype(float), SIZE))
    for row, column in np.ndindex(SIZE):
        far = cv2.pointPolygonTest(points[:, None], (column + 0.5, row + 0.5), True)
        if abs(far) > 0.8:  # it is not exact along the edges
            assert found[row, column] == (far > 0), (row, column)


def test_shares_of_the_size_and_pieces_are_placed(image: Path) -> None:
    half = Drawing(image, image, shapes=(boxed(1, 0, 0, 0.5, 1),), scaled=True).read()
    assert half[:, :15].all()
    assert not half[:, 15:].any()
    piece = np.ones((4, 6), bool)
    piece[0, 0] = False
    mask = Drawing(image, image, SIZE, (Shape(1, pieces=((2, 3, piece), (-2, 27, piece))),)).read()
    assert mask[2:6, 3:9].sum() == 23
    assert mask[:2, 27:].sum() == 6
    assert mask.sum() == 29


def test_run_lengths_are_those_of_coco(image: Path) -> None:
    rng = np.random.default_rng(0)
    inside = np.asfortranarray(rng.random(SIZE) > 0.5, dtype=np.uint8)
    packed = pycocotools.mask.encode(inside)["counts"].decode()
    found = Drawing(image, image, SIZE, (Shape(1, runs=runs_of(packed)),)).read()
    np.testing.assert_array_equal(found, inside)
    with pytest.raises(DatasetError, match="make 7 pixels; expected 20x30"):
        Drawing(image, image, SIZE, (Shape(1, runs=check_runs([3, 4])),)).read()


@given(pixels=st.lists(st.booleans(), min_size=1, max_size=200))
def test_packed_runs_come_back(pixels: list[bool]) -> None:
    column: npt.NDArray[np.uint8] = np.asfortranarray(np.array(pixels, np.uint8)[:, None])
    runs = runs_of(pycocotools.mask.encode(column)["counts"].decode())
    assert np.repeat(np.arange(len(runs)) % 2, runs).tolist() == column.ravel().tolist()


@pytest.mark.parametrize("text", ["~~~", "P" * 30, "5\n", "F"])
def test_text_that_is_no_runs_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        runs_of(text)


@pytest.mark.parametrize("runs", [[-1], [1.5], [True], ["3"], [2**40]])
def test_runs_are_whole_numbers(runs: list[object]) -> None:
    with pytest.raises(ValueError, match="whole numbers from 0"):
        check_runs(runs)


def test_labels_for_another_size_are_refused(image: Path) -> None:
    with pytest.raises(DatasetError, match=r"says that a\.png is 40x60; it is 20x30. Was it res"):
        Drawing(image, image, (40, 60)).read()
    with pytest.raises(SourceError, match="cannot be read"):
        Drawing(image, image.with_name("no.png")).read()


def test_size_is_that_of_the_image_as_it_is_seen(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[274] = 6
    PIL.Image.new("RGB", (30, 20)).save(tmp_path / "t.jpg", exif=exif)
    assert upright_size(tmp_path / "t.jpg") == (30, 20)
    (tmp_path / "x.png").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"x\.png: not an image"):
        upright_size(tmp_path / "x.png")


def test_outline_without_end_is_refused(image: Path) -> None:
    far = Shape(1, (np.array([[0, 0], [9, 0], [9, -1e9]]),))
    with pytest.raises(DatasetError, match="more than a side of its image away from it"):
        Drawing(image, image, SIZE, (far,)).read()
    zigzag = np.array([[0, 0], [30, 20]] * 200, float)
    with pytest.raises(DatasetError, match=r"outline is .* pixels long in an image of 20x30"):
        Drawing(image, image, SIZE, (Shape(1, (zigzag,)),)).read()


def name() -> str:
    return "shape 1"


def test_clipped_and_empty_outlines_are_counted() -> None:
    outlines = Outlines(Path("a.json"))
    assert outlines.add([[0, 0], [9, 0], [9, 9.5]], SIZE, name) is not None
    assert outlines.add([[0, 0], [30.6, 0], [9, 9]], SIZE, name) is not None  # rounding
    assert outlines.notices() == []
    assert outlines.add([[-5, 0], [9, 0], [9, 9]], SIZE, name) is not None
    assert outlines.add([0, 0, 9, 9], SIZE, name) is None
    assert outlines.add([[0, 0], [99, 0], [9, 9]], None, name) is not None
    assert outlines.add([[0, 3], [0, 8], [0, 5]], SIZE, name) is None  # a line on the border
    assert outlines.add([[30, 3], [30.5, 8], [30, 5]], SIZE, name) is None
    assert outlines.notices() == [
        "1 polygon clipped at the border of the image (shape 1)",
        "3 polygons of fewer than three corners or on a border, which cover nothing (shape 1, ...)",
    ]


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([[31, 0], [40, 0], [40, 9]], "lies outside the image: x from 31 to 40, y from 0 to 9"),
        ([[-9, 0], [-1, 0], [-4, 9]], "lies outside the image"),
        ([[0, 0], [900, 0], [900, 900]], "its image is 20x30: was it resized"),
        ([[0, 0], [1, float("nan")], [3, 3]], "has no list of x and y in pixels"),
        ([[0, 0], ["x", 1], [3, 3]], "has no list of x and y"),
        ([1, 2, 3, 4, 5, 6, 7], "has no list of x and y"),
        ({"a": 1}, "has no list of x and y"),
        (None, "has no list of x and y"),
    ],
)
def test_outlines_that_cannot_be_meant_are_refused(points: object, words: str) -> None:
    with pytest.raises(DatasetError, match=rf"^a\.json: shape 1 .*{words}"):
        Outlines(Path("a.json")).add(points, SIZE, name)


@pytest.mark.parametrize("size", [(0, 64), (48, -1)])
def test_images_without_pixels_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(
        DatasetError, match=r"x\.json: the image of shape 1 is said to be .*one pixel"
    ):
        Outlines(Path("x.json")).add([1, 1, 5, 1, 5, 5], size, lambda: "shape 1")


def test_shares_beyond_one_are_pixels() -> None:
    with pytest.raises(DatasetError, match="expected shares of width and height, 0 to 1"):
        Outlines(Path("a.txt")).add([10, 10, 20, 10, 20, 20], (1, 1), name)


def test_ellipse_covers_its_area(image: Path) -> None:
    shape = polygon(1, *ellipse(15, 10, 8, 6))
    assert Drawing(image, image, SIZE, (shape,)).read().sum() == pytest.approx(np.pi * 48, rel=0.05)
