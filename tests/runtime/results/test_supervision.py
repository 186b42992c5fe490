"""Regions as `supervision.Detections`."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edgeunet.errors import MissingDependencyError
from edgeunet.runtime.results.supervision import detections
from edgeunet.shapes.regions import regions_of
from support.masks import LEGEND

MASK = np.array([[0, 1, 1, 0, 2], [0, 1, 0, 0, 2], [2, 0, 0, 1, 1]], np.uint8)


def test_detections_are_the_regions() -> None:
    supervision = pytest.importorskip("supervision", reason="pip install '.[supervision]'")
    confidence = np.full(MASK.shape, 51, np.uint8)
    found = detections(MASK, LEGEND, confidence=confidence)
    regions = regions_of(MASK, LEGEND)
    assert isinstance(found, supervision.Detections)
    assert len(found) == len(regions) == 4
    assert found.class_id.tolist() == [region.class_id for region in regions]
    assert found["class_name"].tolist() == ["cell", "cell", "film", "film"]
    assert found.confidence == pytest.approx([0.2] * 4)
    assert found.area.tolist() == [region.area for region in regions]
    assert found.xyxy.tolist() == [[1, 0, 3, 2], [3, 2, 5, 3], [4, 0, 5, 2], [0, 2, 1, 3]]
    seen = np.zeros_like(MASK)
    for inside, class_id in zip(found.mask, found.class_id, strict=True):
        assert not seen[inside].any()
        seen[inside] = class_id
    np.testing.assert_array_equal(seen, MASK)
    assert detections(MASK, LEGEND).confidence is None
    assert len(detections(MASK, LEGEND, min_area=3)) == 1
    assert len(detections(np.zeros_like(MASK), LEGEND)) == 0


def test_missing_supervision_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[supervision\]'"):
        detections(MASK, LEGEND)
