"""Frames and masks, encoded for viewers."""

from __future__ import annotations

import io

import numpy as np

from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.serve.pictures import LONGEST_SIDE, record, reduced
from edgeunet.runtime.sources import SourceFrame
from support.media import numbered_frame
from support.serving import read_record


def test_large_frames_shrink_without_mixing_classes() -> None:
    size = (1000, 2 * LONGEST_SIDE)
    mask = np.random.default_rng(0).choice(np.uint8([0, 7]), size)
    frame, ids = reduced(numbered_frame(1, size), mask)
    assert frame.shape == (500, LONGEST_SIDE, 3)
    assert ids.shape == (500, LONGEST_SIDE)
    assert set(np.unique(ids)) == {0, 7}


def test_record_holds_full_size_and_class_shares() -> None:
    size = (2, 2 * LONGEST_SIDE)
    mask = np.zeros(size, np.uint8)
    mask[0] = 1
    content = record(
        Segmented(SourceFrame(8, "a.png", numbered_frame(1, size)), mask, np.float32([0.25, 1])),
        classes=2,
        milliseconds=3,
    )
    meta = read_record(io.BytesIO(content)).meta
    assert meta["full"] == [2, 2 * LONGEST_SIDE]
    assert meta["size"] == [1, LONGEST_SIDE]
    assert meta["shares"] == [0.5, 0.5]
    assert meta["presence"] == [0.25, 1]
    assert (meta["index"], meta["name"], meta["milliseconds"]) == (8, "a.png", 3)
