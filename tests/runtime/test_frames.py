"""Batches: frames of one size, and each frame's share of what was computed."""

from __future__ import annotations

import numpy as np
import pytest

from edgeunet.errors import FrameError
from edgeunet.runtime.frames import Batch, SourceFrame


def frames(*sizes: tuple[int, int]) -> list[SourceFrame]:
    return [
        SourceFrame(index, str(index), np.zeros((*size, 3), np.uint8))
        for index, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("confidence", [False, True])
def test_each_frame_gets_its_share(confidence: bool) -> None:
    batch = Batch(frames((4, 6), (4, 6)), confidence)
    assert len(batch) == 2 and batch.size == (4, 6)
    batch.masks = np.arange(48, dtype=np.uint8).reshape(2, 4, 6)
    batch.presence = np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)
    if confidence:
        batch.confidence = 255 - batch.masks
    for index, segmented in enumerate(batch):
        assert segmented.frame is batch.frames[index]
        np.testing.assert_array_equal(segmented.mask, batch.masks[index])
        np.testing.assert_array_equal(segmented.presence, batch.presence[index])
        if batch.confidence is None:
            assert segmented.confidence is None
        else:
            np.testing.assert_array_equal(segmented.confidence, batch.confidence[index])


def test_without_a_gate_there_is_no_presence() -> None:
    batch = Batch.of([frame.image for frame in frames((2, 3))])
    batch.masks = np.zeros((1, 2, 3), np.uint8)
    assert next(iter(batch)).presence is None


@pytest.mark.parametrize(("sizes", "words"), [([(4, 6), (4, 7)], "4x6, 4x7"), ([], "got none")])
def test_a_batch_has_one_size(sizes: list[tuple[int, int]], words: str) -> None:
    with pytest.raises(FrameError, match=words):
        Batch(frames(*sizes))
