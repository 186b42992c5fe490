"""Frames to net input, against PyTorch's own resizing."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import PIL
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgeunet.bundle.manifest import BYTE_FILTERS, Filter, InputSpec, Resize, channel_names
from edgeunet.bundle.steps import ImageStatistics
from edgeunet.models.reference import to_input
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.frames import Frame
from support.formats import statistics

MEAN_AND_STD: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
GRAY: dict[str, Any] = {"mean": (0.45,), "std": (0.25,)}
every_color = pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
every_resize = pytest.mark.parametrize("resize", ["stretch", "pad"])
sides = st.integers(1, 160)  # the nets' are 8 to 96: up and down, and both at once
net_sides = st.integers(1, 12).map(lambda eighths: 8 * eighths)
seeds = st.integers(0, 2**32 - 1)


def make_spec(height: int, width: int, color: Any = "rgb", resize: Any = "stretch") -> InputSpec:
    return InputSpec(
        height,
        width,
        channels=channel_names([color]),
        resize=resize,
        **(GRAY if color == "gray" else MEAN_AND_STD),
    )


def random_frame(height: int, width: int, seed: int, *, channels: int = 3) -> Frame:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


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
    pixels = random_frame(height, width, seed, channels=len(spec.channels))
    image = Preprocessor(spec)([pixels])
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


@pytest.mark.parametrize("how", get_args(Filter))
@every_resize
@given(height=sides, width=sides, net_height=net_sides, net_width=net_sides, seed=seeds)
def test_every_filter_is_that_of_the_reference(
    how: Filter, resize: Any, height: int, width: int, net_height: int, net_width: int, seed: int
) -> None:
    if how in BYTE_FILTERS and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("Pillow before 13 resamples columns first, which rounds otherwise")
    spec = InputSpec(net_height, net_width, resize=resize, filter=how)
    frame = random_frame(height, width, seed)
    atol = 1e-4 if how == "bilinear" else 1e-5  # of about -2 to 3
    if how == "torchvision":
        atol = 1.01 / (255 * min(spec.std))  # sums end on either side of a half
    image = Preprocessor(spec)([frame])
    np.testing.assert_allclose(image, to_input(frame, spec).numpy(), rtol=0, atol=atol)


@given(
    how=statistics(),
    filter=st.sampled_from(get_args(Filter)),
    resize=st.sampled_from(get_args(Resize)),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    dark=st.floats(0, 1),
    seed=seeds,
)
def test_images_are_measured_as_by_the_reference(
    how: ImageStatistics,
    filter: Filter,  # noqa: A002
    resize: Any,
    size: tuple[int, int],
    dark: float,
    seed: int,
) -> None:
    assume(filter != "torchvision")  # it rounds halves to either side
    if filter in BYTE_FILTERS:
        assume(int(PIL.__version__.split(".")[0]) >= 13 and not how.masks)
    frame = random_frame(*size, seed)
    frame[np.random.default_rng(seed).random(frame.shape) < dark] = 0
    spec = InputSpec(
        32,
        24,
        channels=("blue", "red"),
        resize=resize,
        filter=filter,
        statistics=how,
        mean=(0.5, 0),
        std=(1, 0.25),
    )
    expected = to_input(frame, spec).numpy()
    atol = 1e-5 * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(Preprocessor(spec)([frame]), expected, rtol=0, atol=atol)


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
