"""Pre-processing in CUDA, compiled for the host, against the CPU's."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.manifest import RGB, InputSpec, channel_names
from edgeunet.runtime.backends.preprocess import Preprocessor
from support.host_kernels import preprocessed, where_ipp_resizes

ATOL = 3e-4
"""Of normalised values, about -2 to 3."""
seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 100)


@st.composite
def specs(draw: st.DrawFn) -> InputSpec:
    channels = draw(st.sampled_from([*permutations(RGB), ("gray",)]))
    values = {"mean": (0.45,), "std": (0.25,)} if channels == ("gray",) else {}
    resize = draw(st.sampled_from(["stretch", "pad", "pad_centre"]))
    return InputSpec(
        draw(sides),
        draw(sides),
        channels=channels,
        resize=resize,
        fill=None if resize == "stretch" else draw(st.sampled_from([None, 114.0])),
        **values,
    )


@given(
    spec=specs(),
    size=st.tuples(sides, sides),
    count=st.integers(1, 3),
    seed=seeds,
    shift=st.integers(0, 3),
)
def test_images_are_those_of_the_preprocessor(
    spec: InputSpec, size: tuple[int, int], count: int, seed: int, shift: int
) -> None:
    frames = np.random.default_rng(seed).integers(0, 256, (count, *size, 3), np.uint8)
    images = preprocessed(spec, frames, np.float32, shift=shift)
    np.testing.assert_allclose(images, Preprocessor(spec)(frames), rtol=0, atol=ATOL)
    halves = preprocessed(spec, frames, np.float16)
    assert np.array_equal(halves, images.astype(np.float16))


@given(
    size=st.tuples(sides, sides),
    net=st.tuples(sides, sides),
    depth=st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    count=st.integers(1, 5),
    resize=st.sampled_from(["stretch", "pad", "pad_centre"]),
    seed=seeds,
)
def test_images_of_any_depth_and_channels_are_those_of_the_preprocessor(
    size: tuple[int, int], net: tuple[int, int], depth: Any, count: int, resize: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    names = ("gray",) if count == 1 else tuple(f"band {number}" for number in range(count))
    spec = InputSpec(
        *net,
        channels=names,
        levels=(-20.0, 4095.0),
        depth=depth,
        resize=resize,
        fill=None if resize == "stretch" else 100.0,
        mean=tuple(rng.uniform(0, 1, count).tolist()),
        std=tuple(rng.uniform(0.2, 1, count).tolist()),
    )
    frames = rng.integers(0, 256 if depth == "uint8" else 4096, (2, *size, count)).astype(depth)
    images = preprocessed(spec, frames, np.float32)
    np.testing.assert_allclose(images, Preprocessor(spec)(frames), rtol=0, atol=ATOL)
    halves = preprocessed(spec, frames, np.float16)
    assert np.array_equal(halves, images.astype(np.float16))


@pytest.mark.parametrize("channels", [("green",), ("red", "blue"), ("green", "blue", "red")])
def test_any_part_of_rgb_is_taken_from_rgb(channels: tuple[str, ...]) -> None:
    count = len(channels)
    spec = InputSpec(17, 23, channels=channels, mean=(0.4,) * count, std=(0.3,) * count)
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 31, 3), np.uint8)
    images = preprocessed(spec, frames, np.float32)
    np.testing.assert_allclose(images, Preprocessor(spec)(frames), rtol=0, atol=ATOL)


@given(
    spec=specs(),
    size=st.tuples(sides, sides),
    seed=seeds,
    shifts=st.tuples(st.integers(0, 3), st.integers(0, 7)),
)
def test_four_pixels_a_thread_are_those_of_one_to_the_bit(
    spec: InputSpec, size: tuple[int, int], seed: int, shifts: tuple[int, int]
) -> None:
    """Nets without one of the colours take the kernel of a pixel a thread."""
    if spec.channels == ("gray",):
        spec = replace(spec, channels=RGB, mean=(0.45,) * 3, std=(0.25,) * 3)
    frames = np.random.default_rng(seed).integers(0, 256, (2, *size, 3), np.uint8)
    two = replace(spec, channels=spec.channels[1:], mean=spec.mean[1:], std=spec.std[1:])
    for dtype in (np.float32, np.float16):
        images = preprocessed(spec, frames, dtype, shift=shifts[0], image_shift=shifts[1])
        assert np.array_equal(images[:, 1:], preprocessed(two, frames, dtype))


@pytest.mark.parametrize("width", range(1, 10))
@pytest.mark.parametrize("resize", ["stretch", "pad_centre"])
@pytest.mark.parametrize("channels", [RGB, ("gray",)])
def test_narrow_nets_and_frames(width: int, resize: Any, channels: tuple[str, ...]) -> None:
    count = len(channels)
    statistics = {"mean": (0.45,) * count, "std": (0.25,) * count}
    spec = InputSpec(5, width, channels=channels, resize=resize, **statistics)
    for frame_width in range(1, 10):
        frames = np.random.default_rng(width).integers(0, 256, (2, 4, frame_width, 3), np.uint8)
        wanted = Preprocessor(spec)(frames)
        for shift in range(4):
            images = preprocessed(spec, frames, np.float32, shift=shift, image_shift=shift)
            np.testing.assert_allclose(images, wanted, rtol=0, atol=ATOL)
            halves = preprocessed(spec, frames, np.float16, shift=shift, image_shift=shift)
            assert np.array_equal(halves, images.astype(np.float16))


@where_ipp_resizes
@pytest.mark.parametrize("size", [(2, 3), (480, 640), (720, 1280), (33, 47), (66, 94), (66, 47)])
@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_images_are_bit_for_bit_those_of_ipp(size: tuple[int, int], resize: Any) -> None:
    spec = InputSpec(33, 47, channels=channel_names(["bgr"]), resize=resize)
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    assert np.array_equal(preprocessed(spec, frames, np.float32), Preprocessor(spec)(frames))


@pytest.mark.parametrize("size", [(1, 1), (1, 97), (480, 640), (33, 47), (66, 94)])
@pytest.mark.parametrize("color", ["rgb", "gray"])
def test_images_at_odd_sizes(size: tuple[int, int], color: Any) -> None:
    values = {"mean": (0.45,), "std": (0.25,)} if color == "gray" else {}
    spec = InputSpec(33, 47, channels=channel_names([color]), resize="pad", **values)
    frames = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    images = preprocessed(spec, frames, np.float32)
    np.testing.assert_allclose(images, Preprocessor(spec)(frames), rtol=0, atol=ATOL)


def test_gray_is_the_luma_of_cv2_for_every_colour_of_a_grid() -> None:
    levels = np.arange(0, 256, 5, np.uint8)
    frame = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(52, -1, 3)
    spec = InputSpec(*frame.shape[:2], channels=("gray",), mean=(0.0,), std=(1.0,))
    image = preprocessed(spec, frame[None], np.float32)[0, 0]
    assert np.array_equal(np.rint(image * 255), cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))
