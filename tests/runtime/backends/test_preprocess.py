"""Frames to net input, against PyTorch's own resizing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import FrameError
from edgeunet.models.reference import to_input
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.frames import Frame, as_rgb

MEAN_AND_STD: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
GRAY: dict[str, Any] = {"mean": (0.45,), "std": (0.25,)}

every_color = pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
every_resize = pytest.mark.parametrize("resize", ["stretch", "pad"])
sides = st.integers(1, 160)  # the nets' are 8 to 96: up and down, and both at once
net_sides = st.integers(1, 12).map(lambda eighths: 8 * eighths)
seeds = st.integers(0, 2**32 - 1)


def make_spec(height: int, width: int, color: Any = "rgb", resize: Any = "stretch") -> InputSpec:
    return InputSpec(height, width, color, resize, **(GRAY if color == "gray" else MEAN_AND_STD))


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


# Preprocessor


@pytest.mark.parametrize(("color", "order"), [("rgb", (0, 1, 2)), ("bgr", (2, 1, 0))])
def test_plain_colour_by_hand(color: Any, order: tuple[int, ...]) -> None:
    frame = np.empty((5, 6, 3), np.uint8)
    frame[:] = (255, 51, 0)  # 1, 0.2 and 0
    wanted = [
        ((1, 0.2, 0)[source] - mean) / std
        for source, mean, std in zip(order, *MEAN_AND_STD.values(), strict=True)
    ]
    image = Preprocessor(make_spec(8, 16, color))([frame])
    assert image.shape == (1, 3, 8, 16)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[0].transpose(1, 2, 0), np.tile(wanted, (8, 16, 1)), atol=1e-6)


@every_color
@every_resize
@given(height=sides, width=sides, net_height=net_sides, net_width=net_sides, seed=seeds)
def test_input_is_that_of_pytorch(
    color: Any, resize: Any, height: int, width: int, net_height: int, net_width: int, seed: int
) -> None:
    spec = make_spec(net_height, net_width, color, resize)
    pixels = random_frame(height, width, seed, channels=spec.channels)
    image = Preprocessor(spec)([as_rgb(pixels)])
    np.testing.assert_allclose(image, to_input(pixels, spec).numpy(), rtol=0, atol=1e-4)


@every_color
@given(height=sides, width=sides, net_height=net_sides, net_width=net_sides)
def test_padding_is_exactly_zero_and_nothing_else_is(
    color: Any, height: int, width: int, net_height: int, net_width: int
) -> None:
    spec = make_spec(net_height, net_width, color, "pad")
    frame = np.full((height, width, 3), 200, np.uint8)  # no mean colour is 200
    image = Preprocessor(spec)([frame])
    rows, columns = spec.fitted_size(height, width)
    inside = np.zeros(image.shape, bool)
    inside[:, :, :rows, :columns] = True
    assert (image[~inside] == 0).all()
    assert (image[inside] != 0).all()


@every_color
@every_resize
@given(sizes=st.lists(st.tuples(sides, sides), min_size=1, max_size=4), seed=seeds)
def test_frame_in_a_batch_is_the_frame_alone(
    color: Any, resize: Any, sizes: list[tuple[int, int]], seed: int
) -> None:
    prepare = Preprocessor(make_spec(24, 40, color, resize))
    frames = [random_frame(*size, seed + index) for index, size in enumerate(sizes)]
    before = [frame.copy() for frame in frames]
    batch = prepare(frames)
    assert np.array_equal(batch, np.concatenate([prepare([frame]) for frame in frames]))
    assert all(np.array_equal(*pair) for pair in zip(frames, before, strict=True))


def test_layout_in_memory_does_not_matter() -> None:
    frame = random_frame(20, 30, 0)
    views: list[npt.NDArray[np.uint8]] = [
        np.asfortranarray(frame),
        random_frame(40, 60, 1)[::2, ::2],
        frame[::-1, ::-1],
    ]
    prepare = Preprocessor(make_spec(16, 24))
    for view in views:
        assert np.array_equal(prepare([view]), prepare([np.ascontiguousarray(view)]))


# Fitting


@pytest.mark.parametrize(
    ("frame", "fitted"),
    [
        ((128, 192), (64, 96)),  # the same aspect
        ((480, 640), (64, 88)),  # 85.3 columns
        ((100, 400), (24, 96)),
        ((400, 100), (64, 16)),
        ((2, 1000), (8, 96)),  # 0.2 rows: never less than 8
        ((32, 24), (64, 48)),  # upwards too
    ],
)
def test_padded_frame_keeps_its_aspect_to_8_pixels(
    frame: tuple[int, int], fitted: tuple[int, int]
) -> None:
    assert make_spec(64, 96, "rgb", "pad").fitted_size(*frame) == fitted
    assert make_spec(64, 96, "rgb", "stretch").fitted_size(*frame) == (64, 96)
