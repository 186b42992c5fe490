"""Frames: their conversion to RGB, and batches of one size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edgeunet.errors import FrameError
from edgeunet.runtime.frames import Batch, Frame, SourceFrame, as_rgb, one_size


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


def random_frame(height: int, width: int, seed: int, *, channels: int = 3) -> Frame:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


# as_rgb


def test_gray_is_repeated() -> None:
    gray = random_frame(3, 4, 0, channels=1)
    for frame in (gray, gray[..., 0]):
        rgb = as_rgb(frame)
        assert rgb.shape == (3, 4, 3)
        assert rgb.dtype == np.uint8
        assert (rgb == gray).all()


def test_rgb_stays_and_alpha_is_dropped() -> None:
    rgba = random_frame(3, 4, 0, channels=4)
    rgb = rgba[..., :3]
    for frame in (rgba, rgb):
        converted = as_rgb(frame)
        assert np.array_equal(converted, rgb)
        assert converted.flags.c_contiguous


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1), (3, 4, 3), (3, 4, 4)])
def test_sixteen_bit_is_eight_bit_times_257(shape: tuple[int, ...]) -> None:
    eight = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert np.array_equal(as_rgb(eight.astype(np.uint16) * 257), as_rgb(eight))


@pytest.mark.parametrize(
    ("deep", "eight"),
    [(0, 0), (128, 0), (129, 1), (257, 1), (32767, 127), (32768, 128), (65406, 254), (65535, 255)],
)
def test_sixteen_bit_is_rounded(deep: int, eight: int) -> None:
    assert (as_rgb(np.full((1, 1), deep, np.uint16)) == eight).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool, np.int8, np.int32, np.uint32])
def test_other_types_are_refused(dtype: type) -> None:
    with pytest.raises(FrameError) as error:
        as_rgb(np.zeros((2, 2, 3), dtype))
    assert str(error.value) == (
        f"frame is {np.dtype(dtype)}; expected uint8 or uint16. Scale it to 0..255 first."
    )


@pytest.mark.parametrize("channels", [2, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_other_numbers_of_channels_are_refused(channels: int, dtype: type) -> None:
    with pytest.raises(FrameError, match=rf"frame has {channels} channels; expected 1 \(gray\), 3"):
        as_rgb(np.zeros((2, 2, channels), dtype))


@pytest.mark.parametrize(
    "shape", [(), (4,), (1, 4, 4, 3), (0, 4), (4, 0), (0, 4, 3), (4, 0, 3), (4, 4, 0)]
)
def test_other_dimensions_and_empty_frames_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FrameError) as error:
        as_rgb(np.zeros(shape, np.uint8))
    assert str(error.value) == f"frame has shape {shape}; expected (H, W) or (H, W, C)."


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
