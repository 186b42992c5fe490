"""Frames: their conversion to RGB, and batches of any sizes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edgeunet.errors import FrameError
from edgeunet.runtime.frames import Batch, SourceFrame, one_size


def frames(*sizes: tuple[int, int]) -> list[SourceFrame]:
    return [
        SourceFrame(index, str(index), np.zeros((*size, 3), np.uint8))
        for index, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("confidence", [False, True])
def test_each_frame_gets_its_share(confidence: bool) -> None:
    batch = Batch(frames((4, 6), (4, 6)), confidence)
    assert len(batch) == 2 and batch.size == (4, 6)
    batch.runs[0].masks = np.arange(48, dtype=np.uint8).reshape(2, 4, 6)
    batch.presence = np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)
    if confidence:
        batch.runs[0].confidence = 255 - batch.masks
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
    batch.runs[0].masks = np.zeros((1, 2, 3), np.uint8)
    assert next(iter(batch)).presence is None


def test_batch_of_several_sizes_has_runs() -> None:
    batch = Batch(frames((4, 6), (2, 3), (2, 3), (4, 6)))
    assert [(run.at.start, len(run.frames), run.size) for run in batch.runs] == [
        (0, 1, (4, 6)), (1, 2, (2, 3)), (3, 1, (4, 6))
    ]  # fmt: skip
    batch.presence = np.arange(4, dtype=np.float32)[:, None]
    for number, run in enumerate(batch.runs):
        run.masks = np.full((len(run.frames), *run.size), number, np.uint8)
    assert [(each.frame.index, each.mask.shape, each.mask[0, 0]) for each in batch] == [
        (0, (4, 6), 0), (1, (2, 3), 1), (2, (2, 3), 1), (3, (4, 6), 2)
    ]  # fmt: skip
    assert [float(each.presence[0]) for each in batch if each.presence is not None] == [0, 1, 2, 3]
    with pytest.raises(FrameError, match="2x3, 4x6"):
        _ = batch.masks


def test_batch_without_a_frame_is_refused() -> None:
    with pytest.raises(FrameError, match="got none"):
        Batch([])


# one_size


def frame(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.zeros((height, width, 3), np.uint8)


def test_one_size_is_height_and_width() -> None:
    assert one_size([frame(4, 6), frame(4, 6)]) == (4, 6)


def test_frames_of_several_sizes_are_refused() -> None:
    with pytest.raises(FrameError, match=r"got 2x9, 4x6\. Split the batch\."):
        one_size([frame(4, 6), frame(2, 9), frame(4, 6)])


def test_no_frame_at_all_is_refused() -> None:
    with pytest.raises(FrameError, match="got none"):
        one_size([])


def test_frames_of_several_depths_are_refused() -> None:
    with pytest.raises(FrameError, match=r"depth and number of channels, got uint16 of .*, uint8"):
        one_size([frame(4, 6), frame(4, 6).astype(np.uint16)])


def test_picture_of_a_frame_is_what_people_see() -> None:
    plain = SourceFrame(0, "", np.full((2, 3, 3), 7, np.uint8), channels=("red", "green", "blue"))
    assert plain.picture is plain.image
    deep = np.zeros((1, 3, 2), np.uint16)
    deep[0, :, 1] = (0, 2048, 5000)
    seen = SourceFrame(0, "", deep, channels=("nir", "gray"), levels=(0, 4095)).picture
    assert (seen.dtype, seen.shape) == (np.uint8, (1, 3, 3))
    assert seen[0, :, 0].tolist() == [0, 128, 255]
