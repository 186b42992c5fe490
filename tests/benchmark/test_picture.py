"""The picture: nothing covers a name, whatever the rows are."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edgeunet.benchmark.picture import Point, draw
from edgeunet.benchmark.report import Setting, sort_rows
from support.benchmarks import ROWS, row

LETTER, HEIGHT = 6.0, 12.0  # of the text as a browser draws it at 12 pixels, at least

some_rows = st.lists(
    st.builds(
        lambda number, ms, lost: row(f"engine number {number} INT8", ms, 1 - lost),
        st.integers(0, 99),
        st.floats(0.5, 500),
        st.floats(0, 0.2),
    ),
    min_size=1,
    max_size=14,
    unique_by=lambda each: each.name,
)


def setting(*rows: object) -> Setting:
    return Setting(2, 1, tuple(sort_rows(rows)))  # type: ignore[arg-type]


def box(point: Point) -> tuple[float, float, float, float]:
    label = point.label
    assert label is not None
    return label.x, label.y - HEIGHT + 2, label.x + LETTER * len(label.text), label.y


def apart(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@settings(max_examples=15, phases=set(Phase) - {Phase.shrink})
@given(some_rows, st.sampled_from([(920.0, 420.0), (360.0, 430.0)]))
def test_names_cover_neither_each_other_nor_points(
    rows: list,  # type: ignore[type-arg]
    size: tuple[float, float],
) -> None:
    picture = draw(setting(*rows), rows[0].title, width=size[0], height=size[1])
    assert picture is not None
    assert len(picture.points) == len(rows)
    named = [point for point in picture.points if point.label is not None]
    assert len(named) + picture.unlabelled == len(rows)
    for index, point in enumerate(named):
        left, top, right, bottom = box(point)
        assert left >= 0 and top >= -2 and right <= size[0] and bottom <= size[1]
        assert all(apart(box(point), box(other)) for other in named[:index])
        for x, y in ((each.x, each.y) for each in picture.points):
            assert not (left < x < right and top < y < bottom)


def test_better_is_up_and_left_and_the_front_is_a_staircase() -> None:
    picture = draw(setting(*ROWS), "openvino INT8", width=920, height=420)
    assert picture is not None
    at = {point.row.name: point for point in picture.points}
    assert at["openvino INT8"].x < at["openvino FP32"].x
    assert at["openvino INT8"].y > at["openvino FP32"].y
    assert at["openvino FP32"].shape != at["openvino INT8"].shape
    assert at["openvino FP32"].series == at["openvino INT8"].series
    assert at["openvino FP32"].series != at["onnxruntime FP32"].series
    assert at["MNN FP32"].series == -1
    assert all(point.label is not None for point in picture.points)
    assert at["openvino INT8"].used
    xs, ys = zip(*picture.line, strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys, reverse=True)
    assert "Front: openvino INT8 with 10.9 ms" in picture.description
    assert "onnxruntime xnnpack FP32" not in at


@pytest.mark.parametrize(
    ("rows", "title"),
    [(ROWS, "% of the pixels differ"), ([row("a FP32", 1.0, iou_lost=-0.1)], "points of mIoU")],
)
def test_axis_says_what_is_lost(rows: list, title: str) -> None:  # type: ignore[type-arg]
    picture = draw(setting(*rows), "", width=920, height=420)
    assert picture is not None
    assert picture.y_title.startswith(title)


@given(st.floats(1e-3, 1e5), st.floats(1.0, 20))
def test_axis_of_time_has_numbers(ms: float, factor: float) -> None:
    rows = (row("a FP32", ms), row("b FP32", ms * factor))
    picture = draw(setting(*rows), "", width=360, height=430)
    assert picture is not None
    assert len(picture.x_ticks) >= 2


def test_no_picture_of_failures_alone() -> None:
    assert draw(setting(row("a FP32", None)), "", width=920, height=420) is None
