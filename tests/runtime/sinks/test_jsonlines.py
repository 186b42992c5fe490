"""JSON Lines: COCO's run lengths, and polygons."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.sinks import JsonLines, PolygonLines
from support.masks import CLASSES, LEGEND, segmented
from support.media import Frame


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


masks = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([0, 1, 2, 255]),
)


@given(mask=masks)
def test_cocos_own_reader_gives_the_mask_back(
    mask: Frame, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("lines") / "out.jsonl"
    with JsonLines(path, classes=CLASSES) as sink:
        sink.write(segmented(mask))
    (record,) = lines(path)
    back = np.full(mask.shape, 77, np.uint8)
    for segment in record["segments"]:  # type: ignore[attr-defined]
        where = coco.decode(segment["segmentation"]).astype(bool)
        assert segment["area"] == where.sum()
        assert (back[where] == 77).all(), "two classes in one pixel"
        back[where] = segment["category_id"]
    np.testing.assert_array_equal(back, mask)


def test_line_tells_frame_time_gate_and_class_names(tmp_path: Path) -> None:
    mask = np.array([[0, 1], [1, 255]], np.uint8)
    frame = segmented(mask, index=7, name="a.png", time=0.28)
    with JsonLines(tmp_path / "out.jsonl", classes=CLASSES) as sink:
        sink.write(Segmented(frame.frame, mask, np.array([1, 0.25, 0], np.float32)))
        sink.write(segmented(mask, index=8))
    first, second = lines(tmp_path / "out.jsonl")
    assert {key: first[key] for key in ("frame", "name", "time", "presence")} == {
        "frame": 7, "name": "a.png", "time": 0.28, "presence": [1, 0.25, 0]
    }  # fmt: skip
    assert (second["frame"], second["time"], second["presence"]) == (8, None, None)
    segments = first["segments"]
    assert isinstance(segments, list)
    assert [(s["category_id"], s["category"], s["area"]) for s in segments] == [
        (0, "background", 1), (1, "cell", 2), (255, "", 1)
    ]  # fmt: skip


@given(mask=masks)
def test_polygons_of_a_line_give_the_mask_back(
    mask: Frame, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("lines") / "out.jsonl"
    with PolygonLines(path, legend=LEGEND) as sink:
        sink.write(segmented(mask, index=3, name="a.png"))
    (record,) = lines(path)
    assert (record["frame"], record["name"], record["size"]) == (3, "a.png", list(mask.shape))
    back = np.zeros(mask.shape, np.uint8)
    for polygon in record["polygons"]:  # type: ignore[attr-defined]
        outer, *holes = (
            filled(ring, mask.shape) for ring in [polygon["outline"], *polygon["holes"]]
        )
        inside = outer & ~np.any([np.zeros_like(outer), *holes], axis=0)
        assert polygon["area"] == inside.sum()
        assert polygon["category"] == CLASSES[polygon["category_id"]]
        back[inside] = polygon["category_id"]
    np.testing.assert_array_equal(back, np.where(mask == 255, 0, mask))


def filled(ring: list[list[int]], size: tuple[int, int]) -> Frame:
    (part,) = coco.frPyObjects([np.ravel(ring).astype(float).tolist()], *size)
    return coco.decode(part).astype(bool)  # type: ignore[no-any-return]


def test_confidence_is_told_of_polygons_if_it_is_known(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 1]], np.uint8)
    known = replace(segmented(mask), confidence=np.array([[0, 255, 51]], np.uint8))
    with PolygonLines(tmp_path / "out.jsonl", legend=LEGEND) as sink:
        sink.write(known)
        sink.write(segmented(mask))
    first, second = (line["polygons"] for line in lines(tmp_path / "out.jsonl"))
    assert [polygon["score"] for polygon in first] == [0.6]  # type: ignore[attr-defined]
    assert "score" not in second[0]  # type: ignore[index]
