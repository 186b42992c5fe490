"""The kernels that resize by tables, compiled for the host, against the CPU's pre-processing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.manifest import BYTE_FILTERS, RGB, Depth, Filter, InputSpec, Resize
from edgeunet.errors import FrameError
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.gpu.kernels import Kernels
from support.device_arrays import Placed, place
from support.host_kernels import load_host_kernels

FILTERS: list[Filter] = [how for how in get_args(Filter) if how not in ("bilinear", "torchvision")]
FLOAT_FILTERS = [how for how in FILTERS if how not in BYTE_FILTERS]
ATOL = 3e-5
"""Of normalised values, about -2 to 3, that are sums in FP32."""
Array = npt.NDArray[Any]
sides = st.integers(1, 100)
every_filter = pytest.mark.parametrize("how", FILTERS)


@st.composite
def specs(draw: st.DrawFn) -> InputSpec:
    channels = draw(st.sampled_from([RGB, RGB[::-1], ("gray",), (*RGB, "nir"), ("nir", "red")]))
    resize: Resize = draw(st.sampled_from(get_args(Resize)))
    return InputSpec(
        draw(sides), draw(sides), channels=channels, resize=resize, **statistics(len(channels))
    )


def statistics(count: int) -> dict[str, Any]:
    return {"mean": (0.45,) * count, "std": (0.25,) * count}


def make_kernels(spec: InputSpec) -> Kernels:
    return Kernels(load_host_kernels(), spec, thresholds=None, palette=((0, 0, 0),) * 2)


def resampled(spec: InputSpec, frames: Array, dtype: Any, *, shift: int = 0) -> Array:
    size = (frames.shape[1], frames.shape[2])
    kernels = make_kernels(spec)
    tables = kernels.tables(size)
    assert tables is not None
    source, at = place(frames, frames.dtype, shift=shift), place(tables.content, np.uint8)
    images = Placed((len(frames), len(spec.channels), spec.height, spec.width), dtype)
    kernels.resample(
        source.address, size, tables, at=at.address, count=len(frames), images=images.address,
        dtype=dtype, stream=None, frame_dtype=frames.dtype, channels=frames.shape[3],
    )  # fmt: skip
    assert np.array_equal(at.written(), tables.content)
    return images.written()


def assert_same(images: Array, wanted: Array, how: Filter) -> None:
    """Byte filters to the bit."""
    np.testing.assert_allclose(images, wanted, rtol=0, atol=0 if how in BYTE_FILTERS else ATOL)


@every_filter
@given(
    spec=specs(),
    size=st.tuples(sides, sides),
    count=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
    shift=st.integers(0, 3),
)
def test_images_are_those_of_the_preprocessor(
    how: Filter, spec: InputSpec, size: tuple[int, int], count: int, seed: int, shift: int
) -> None:
    spec = replace(spec, filter=how)
    channels = len(spec.frame_channels)
    frames = np.random.default_rng(seed).integers(0, 256, (count, *size, channels), np.uint8)
    images = resampled(spec, frames, np.float32, shift=shift)
    assert_same(images, Preprocessor(spec)(frames), how)
    halves = resampled(spec, frames, np.float16)
    assert np.array_equal(halves, images.astype(np.float16))


@pytest.mark.parametrize("how", FLOAT_FILTERS)
@pytest.mark.parametrize("depth", ["uint16", "int16", "float32"])
@pytest.mark.parametrize("names", [("gray",), (*RGB, "nir", "swir")])
def test_frames_of_other_depths(how: Filter, depth: Depth, names: tuple[str, ...]) -> None:
    spec = InputSpec(
        24, 40, channels=names, levels=(-1.0, 30000.0), depth=depth, resize="pad_centre",
        filter=how, **statistics(len(names)),
    )  # fmt: skip
    frames = np.random.default_rng(0).integers(0, 30000, (2, 61, 35, len(names))).astype(depth)
    images = resampled(spec, frames, np.float32, shift=1)
    assert_same(images, Preprocessor(spec)(list(frames)), how)


@pytest.mark.parametrize("how", ["pillow", "pillow_bicubic"])
def test_byte_filters_refuse_other_depths(how: Filter) -> None:
    frames = np.zeros((1, 4, 4, 3), np.float32)
    with pytest.raises(FrameError, match="rounds to bytes and takes uint8, got float32"):
        resampled(InputSpec(8, 8, filter=how), frames, np.float32)


@every_filter
def test_large_frames_with_hard_edges(how: Filter) -> None:
    spec = InputSpec(33, 47, resize="pad", filter=how)
    values = np.array([0, 255], np.uint8)  # a cubic overshoots
    frames = np.random.default_rng(0).choice(values, (1, 540, 960, 3))
    assert_same(resampled(spec, frames, np.float32), Preprocessor(spec)(frames), how)


@every_filter
def test_frame_of_the_net_s_size_is_only_normalised(how: Filter) -> None:
    spec = InputSpec(24, 40, filter=how)
    frames = np.random.default_rng(0).integers(0, 256, (2, 24, 40, 3), np.uint8)
    wanted = Preprocessor(replace(spec, filter="bilinear"))(frames)
    assert np.array_equal(resampled(spec, frames, np.float32), wanted)


def test_bilinear_needs_no_tables() -> None:
    assert make_kernels(InputSpec(8, 8)).tables((16, 16)) is None
