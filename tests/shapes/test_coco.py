"""Annotations of COCO, read by pycocotools' own loader."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools.coco import COCO

from edgeunet.metrics import Mask
from edgeunet.shapes.coco import INFO, annotations_of, categories_of, image_of
from support.masks import LEGEND

masks = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([0, 1, 2, 255]),
)


def loaded(content: dict[str, Any]) -> COCO:
    """What pycocotools makes of a file with this content."""
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    return coco


@given(pair=st.lists(masks, min_size=1, max_size=3), background=st.booleans())
def test_pycocotools_gives_the_masks_back(pair: list[Mask], background: bool) -> None:
    content: dict[str, Any] = {
        "info": INFO,
        "images": [],
        "annotations": [],
        "categories": categories_of(LEGEND, background=background),
    }
    for number, mask in enumerate(pair, 1):
        content["images"].append(image_of(number, f"{number}.png", mask.shape, frame=0, time=None))
        content["annotations"] += annotations_of(
            mask,
            LEGEND,
            image_id=number,
            first_id=len(content["annotations"]) + 1,
            background=background,
        )
    coco = loaded(content)
    assert [coco.cats[id_]["name"] for id_ in coco.getCatIds()] == [
        *(["background"] if background else []), "cell", "film"
    ]  # fmt: skip
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
    for number, mask in enumerate(pair, 1):
        back = np.full(mask.shape, 255, np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(number)):
            inside = coco.annToMask(annotation).astype(bool)
            assert (back[inside] == 255).all(), "two annotations in one pixel"
            back[inside] = annotation["category_id"]
            rows, columns = np.nonzero(inside)
            x, y, width, height = annotation["bbox"]
            assert annotation["area"] == inside.sum()
            assert (x, x + width) == (columns.min(), columns.max() + 1)
            assert (y, y + height) == (rows.min(), rows.max() + 1)
        wanted = np.where(mask == 0, 255 * (not background), mask)
        np.testing.assert_array_equal(back, wanted)


def test_confidence_becomes_the_score() -> None:
    mask = np.array([[1, 1, 0, 2]], np.uint8)
    confidence = np.array([[255, 51, 7, 102]], np.uint8)
    records = annotations_of(mask, LEGEND, image_id=1, first_id=1, confidence=confidence)
    assert [record["score"] for record in records] == [0.6, 0.4]
    assert "score" not in annotations_of(mask, LEGEND, image_id=1, first_id=1)[0]


def test_time_is_told_of_frames_that_have_one() -> None:
    assert image_of(3, "a.mp4#3", (4, 6), frame=2, time=0.08) == {
        "id": 3, "file_name": "a.mp4#3", "height": 4, "width": 6, "frame": 2, "time": 0.08
    }  # fmt: skip
    assert "time" not in image_of(1, "a.png", (4, 6), frame=0, time=None)
