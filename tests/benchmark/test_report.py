"""The front: no row beats one on it, and each row off it is beaten."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from edgeunet.benchmark.report import front, loss, sort_rows
from support.benchmarks import ROWS, report, row

rows_of_any_kind = st.lists(
    st.builds(
        lambda ms, lost: row("engine INT8", ms, 1 - lost / 100),
        st.sampled_from([None, 1.0, 2.0, 3.5, 7.0]),
        st.integers(0, 5),
    ),
    max_size=8,
)


@given(rows_of_any_kind)
def test_front_has_all_that_nothing_beats(rows: list) -> None:  # type: ignore[type-arg]
    found = front(rows)
    timed = [each for each in rows if each.p50 is not None]
    for each in timed:
        beaten = any(
            (other.p50, loss(other)) != (each.p50, loss(each))
            and other.p50 <= each.p50
            and loss(other) <= loss(each)
            for other in timed
        )
        same = [other for other in found if (other.p50, loss(other)) == (each.p50, loss(each))]
        assert bool(same) != beaten
    assert [each.p50 for each in found] == sorted(each.p50 for each in found)


def test_labels_count_more_than_pixels_and_tiles_only_by_labels() -> None:
    by_pixels, by_labels = row("a INT8", 5.0, 0.99), row("b INT8", 5.0, 0.5, iou_lost=-0.2)
    assert (loss(by_pixels), loss(by_labels)) == (100 * (1 - 0.99), -0.2)
    tiles = row("c FP32", 50.0, 1.0, tiled=True)
    assert tiles not in front([by_pixels, tiles])
    better = row("c FP32", 50.0, 1.0, tiled=True, iou_lost=-3.0)
    assert better in front([by_labels, better])


def test_failures_come_last_and_keep_their_reason() -> None:
    ordered = list(sort_rows(ROWS))
    assert [each.p50 for each in ordered[:-1]] == sorted(each.p50 for each in ordered[:-1])
    assert ordered[-1].problem == "it did not start"


def test_json_says_what_is_on_the_front() -> None:
    found = json.loads(json.dumps(report().to_json()))
    rows = found["settings"][0]["rows"]
    assert len(rows) == len(ROWS)
    on_front = {each["title"] for each in rows if each["front"]}
    assert on_front == {"openvino INT8", "onnxruntime INT8", "openvino FP32"}
    assert rows[0]["rate"] == 1000 / 10.9
    assert row("x INT8", 1.0, depth=2, tiled=True).title == "x INT8, depth 2, tiles"
