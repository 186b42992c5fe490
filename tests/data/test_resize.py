"""Filters: `resize` and the tables, against the libraries that the filters are from."""

from __future__ import annotations

from typing import Any, get_args

import cv2
import numpy as np
import numpy.typing as npt
import PIL
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.transforms import functional
from torchvision.transforms.v2 import functional as functional_v2

from edgeunet.bundle.manifest import Filter
from edgeunet.data.resize import (
    BYTE_FILTERS,
    FRACTION_BITS,
    Size,
    Taps,
    resize,
    resize_frame,
    tables,
    taps,
)
from edgeunet.errors import FrameError

FILTERS: tuple[Filter, ...] = get_args(Filter)
FIXED_POINT: tuple[Filter, ...] = ("pillow", "pillow_bicubic")
FLOAT_FILTERS = [name for name in FILTERS if name not in BYTE_FILTERS]
PILLOW_VERSION = int(PIL.__version__.split(".")[0])
PILLOW = {"pillow": Image.Resampling.BILINEAR, "pillow_bicubic": Image.Resampling.BICUBIC}
FULL_SCALE = {np.uint8: 255.0, np.uint16: 65535.0, np.float32: 1.0}
Plane = npt.NDArray[Any]

sides = st.integers(1, 300) | st.integers(1, 24)
sizes = st.tuples(sides, sides)
seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.uint8, np.uint16, np.float32])


def random_plane(size: Size, dtype: Any, seed: int) -> Plane:
    rng = np.random.default_rng(seed)
    if dtype is np.float32:
        return rng.random(size, np.float32)
    # Black and white beside each other, where a cubic overshoots.
    return rng.choice([0, np.iinfo(dtype).max, int(rng.integers(256))], size).astype(dtype)


def by_library(plane: Plane, size: Size, how: Filter) -> Plane:
    """The filter as its own library computes it, float filters in FP64 if that library can."""
    if how in PILLOW:
        # Older versions start with columns, which rounds otherwise.
        shrinks = plane.shape[0] - size[0], plane.shape[1] - size[1]
        assume(PILLOW_VERSION >= 13 or not shrinks[0] > max(0, 2 * shrinks[1]))
        return np.asarray(Image.fromarray(plane).resize((size[1], size[0]), PILLOW[how]))
    if how == "area":
        return cv2.resize(
            plane.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_AREA
        )
    if size[1] == 1 < size[0]:
        return by_library(plane.T, (1, size[0]), how).T  # PyTorch 2.13 repeats the first pixel
    pixels = torch.from_numpy(plane.astype(np.float64))[None, None]
    resized = interpolate(
        pixels, size=size, mode="bilinear", align_corners=False, antialias=how == "antialias"
    )
    return resized[0, 0].numpy()


def by_tables(plane: Plane, size: Size, how: Filter) -> Plane:
    """The two passes, each a weighted sum."""
    rows, columns, rows_first = tables(how, (plane.shape[0], plane.shape[1]), size)
    if rows_first:
        return one_pass(one_pass(plane, rows, how).T, columns, how).T
    return one_pass(one_pass(plane.T, columns, how).T, rows, how)


def one_pass(plane: Plane, axis: Taps, how: Filter) -> Plane:
    """Resample the rows (m, k) of a plane."""
    picked = plane[axis.start[:, None] + np.arange(axis.weights.shape[1])]
    if how not in FIXED_POINT:
        return np.einsum("ijk,ij->ik", picked.astype(np.float64), axis.weights)
    sums = np.einsum("ijk,ij->ik", picked.astype(np.int64), axis.weights.astype(np.int64))
    assert np.abs(sums).max() + (1 << FRACTION_BITS - 1) < 2**31  # as the kernel adds
    return np.clip(sums + (1 << FRACTION_BITS - 1) >> FRACTION_BITS, 0, 255).astype(np.uint8)


# resize


@pytest.mark.parametrize("how", FIXED_POINT)
@given(size=sizes, target=sizes, seed=seeds)
def test_filters_of_pillow_are_its_own_bit_for_bit(
    how: Filter, size: Size, target: Size, seed: int
) -> None:
    plane = random_plane(size, np.uint8, seed)
    wanted = by_library(plane, target, how)
    assert np.array_equal(resize(plane, target, how), wanted)
    assert np.array_equal(by_tables(plane, target, how), wanted)


@given(size=sizes, target=sizes, seed=seeds)
def test_bytes_of_torchvision_are_rounded_as_it_does(size: Size, target: Size, seed: int) -> None:
    assume(target[1] > 1 or size[0] == target[0])  # PyTorch 2.13 repeats the first pixel
    plane = random_plane(size, np.uint8, seed)
    pixels = torch.from_numpy(plane)[None]
    wanted = functional.resize(pixels, list(target), antialias=True)[0].numpy()
    found = resize(plane, target, "torchvision")
    differs = found != wanted
    assert np.abs(found - wanted).max() <= 1
    # PyTorch's weights in FP32 lose bits, so that sums end on either side of a half.
    halves = np.abs(resize(plane, target, "antialias") % 1 - 0.5)
    assert (halves[differs] < 1e-2).all()
    modern = functional_v2.resize(pixels, list(target), antialias=True)[0].numpy()
    assert np.abs(found - modern).max() <= 1  # its weights have at most 16 bits


@pytest.mark.parametrize("how", FLOAT_FILTERS)
@given(size=sizes, target=sizes, dtype=dtypes, seed=seeds)
def test_float_filters_are_those_of_their_library(
    how: Filter, size: Size, target: Size, dtype: Any, seed: int
) -> None:
    plane = random_plane(size, dtype, seed)
    wanted = by_library(plane, target, how)
    resized = resize(plane, target, how)
    assert resized.shape == target
    assert resized.dtype == np.float32
    # cv2 takes the weights of a bilinear filter from a coordinate in FP32, see pixels.cuh.
    share = 1e-6 if how == "antialias" else 1e-4 if how == "bilinear" else 1e-5
    tolerance = share * FULL_SCALE[dtype]
    np.testing.assert_allclose(resized, wanted, rtol=0, atol=tolerance)
    np.testing.assert_allclose(by_tables(plane, target, how), wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("how", FILTERS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_size_of_the_plane_changes_nothing(how: Filter, dtype: Any) -> None:
    if how in BYTE_FILTERS and dtype is not np.uint8:
        return
    plane = random_plane((7, 9), dtype, 0)
    assert np.array_equal(resize(plane, (7, 9), how), plane)
    assert np.array_equal(by_tables(plane, (7, 9), how), plane)


@pytest.mark.parametrize("how", FILTERS)
def test_plane_is_a_view_and_stays_as_it_is(how: Filter) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    before = frame.copy()
    view = frame[::-1, ::2, 1]
    assert np.array_equal(
        resize(view, (9, 8), how), resize(np.ascontiguousarray(view), (9, 8), how)
    )
    assert np.array_equal(frame, before)


@pytest.mark.parametrize("how", BYTE_FILTERS)
@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_byte_filters_refuse_what_is_not_bytes(how: Filter, dtype: Any) -> None:
    words = rf"'{how}' rounds to bytes and takes uint8, got {np.dtype(dtype)}\. .*'antialias'"
    with pytest.raises(FrameError, match=words):
        resize(np.zeros((4, 4), dtype), (4, 4), how)


@pytest.mark.parametrize("how", FLOAT_FILTERS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_frame_keeps_its_depth(how: Filter, dtype: Any) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 4)).astype(dtype)
    resized = resize_frame(frame, (9, 31), how)
    assert resized.dtype == dtype
    assert resize_frame(frame, (20, 30), how) is frame
    for channel in range(4):
        plane = resize(frame[..., channel], (9, 31), how)
        rounding = 0 if dtype is np.float32 else 0.5
        assert np.abs(resized[..., channel] - plane).max() <= rounding


def test_values_below_zero_stay() -> None:
    plane = np.linspace(-900, -100, 64).astype(np.int16).reshape(8, 8)
    for how in FLOAT_FILTERS:
        assert resize(plane, (1, 1), how) == pytest.approx(-500, abs=120)


def test_only_bilinear_misses_stripes_of_one_pixel() -> None:
    stripes = np.tile(np.array([0, 0, 0, 255], np.uint8), (64, 16))
    middle = {how: resize(stripes, (64, 16), how)[:, 4:-4] for how in FILTERS}
    assert (middle.pop("bilinear") == 0).all()
    for how, columns in middle.items():
        assert np.abs(columns - 255 / 4).max() <= 0.5, how


# Tables


@pytest.mark.parametrize("how", FILTERS)
@given(source=st.integers(1, 5000), target=st.integers(1, 600), other_grows=st.booleans())
def test_tables_read_only_pixels_that_exist(
    how: Filter, source: int, target: int, other_grows: bool
) -> None:
    axis = taps(how, source, target, grows=other_grows or source < target)
    assert axis.start.dtype == np.int32
    assert axis.weights.dtype == (np.int32 if how in FIXED_POINT else np.float32)
    assert axis.start.shape == (target,)
    assert axis.start.min() >= 0
    assert axis.start.max() + axis.weights.shape[1] <= source
    one = 1 << FRACTION_BITS if how in FIXED_POINT else 1.0
    total = axis.weights.sum(1, dtype=np.float64) / one
    # OpenCV's area forgets up to a thousandth of a pixel at either end.
    rounded = axis.weights.shape[1] / (2 * (1 << FRACTION_BITS))
    assert np.abs(total - 1).max() <= (2e-3 if how == "area" else max(1e-5, rounded))
