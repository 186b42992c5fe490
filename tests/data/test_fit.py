"""Frames of any depth and channels become those of a net, or an error says what to pass."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edgeunet.bundle.manifest import RGB, InputSpec
from edgeunet.data.fit import Fit, Reading, few_bits, gray_of, is_usual, visible
from edgeunet.data.images import to_8bit
from edgeunet.errors import FrameError, UsageError
from support.media import write_png

NIR = (*RGB, "nir")
PLAIN = InputSpec(8, 8)
GRAY = InputSpec(8, 8, channels=("gray",), mean=(0.5,), std=(0.25,))


def deep(channels: tuple[str, ...], depth: Any = "uint16", levels: Any = (0, 4095)) -> InputSpec:
    count = len(channels)
    return InputSpec(
        8, 8, channels=channels, levels=levels, depth=depth, mean=(0.5,) * count, std=(0.2,) * count
    )


def pixels(channels: int, dtype: Any = np.uint8, top: int = 256) -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, top, (5, 6, channels)).astype(dtype)


def refusal(fit: Fit, frame: npt.NDArray[Any], channels: tuple[str, ...] = ()) -> str:
    with pytest.raises(FrameError) as error:
        fit(frame, channels)
    return str(error.value)


# Size


@pytest.mark.parametrize(
    ("size", "read"),
    [
        ((8, 8), None),
        ((16, 16), None),
        ((32, 16), None),
        ((33, 16), "48%"),
        ((64, 80), "5%"),
        ((500, 100), "less than 1%"),
    ],
)
def test_large_frames_that_bilinear_hardly_reads(size: tuple[int, int], read: str | None) -> None:
    notes: list[str] = []
    fit = Fit(PLAIN, tell=notes.append)
    for _ in range(2):  # told once
        fit(np.zeros((*size, 3), np.uint8), name="big.png")
    if read is None:
        assert notes == []
        return
    (note,) = notes
    assert note.startswith(f"big.png has {size[0]}x{size[1]} pixels, and the filter bilinear reads")
    assert f"reads {read} of them for 8x8" in note
    assert "--filter antialias" in note


def test_frames_that_are_read_in_full_are_no_news() -> None:
    notes: list[str] = []
    large = np.zeros((64, 64, 3), np.uint8)
    Fit(replace(PLAIN, filter="antialias"), tell=notes.append)(large)
    Fit(PLAIN, resized=False, tell=notes.append)(large)  # tiles
    assert notes == []


# Channels


def test_gray_is_repeated_for_rgb() -> None:
    gray = pixels(1)
    for frame in (gray, gray[..., 0]):
        rgb = Fit(PLAIN)(frame)
        assert rgb.shape == (5, 6, 3) and rgb.dtype == np.uint8
        assert (rgb == gray).all()
    both = np.dstack([gray, gray // 2])
    assert (Fit(PLAIN)(both, ("gray", "alpha")) == gray).all()


def test_rgb_stays_and_alpha_is_dropped() -> None:
    rgba = pixels(4)
    for frame in (rgba, rgba[..., :3]):
        fitted = Fit(PLAIN)(frame)
        np.testing.assert_array_equal(fitted, rgba[..., :3])
        assert fitted.flags.c_contiguous
    np.testing.assert_array_equal(Fit(PLAIN)(rgba, ("blue", "green", "red", "x")), rgba[..., 2::-1])


@pytest.mark.parametrize("channels", [("blue", "green", "red"), ("green",), ("red", "blue")])
def test_frames_of_nets_of_any_part_of_rgb_are_rgb(channels: tuple[str, ...]) -> None:
    spec = deep(channels, "uint8", (0, 255))
    rgb = pixels(3)
    np.testing.assert_array_equal(Fit(spec)(rgb), rgb)
    assert Fit(spec).channels == RGB
    own = Fit(spec, channels=channels)(rgb)
    np.testing.assert_array_equal(own, rgb[..., [RGB.index(name) for name in channels]])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_gray_is_computed_from_rgb_in_every_depth(dtype: Any) -> None:
    rgb = pixels(3, dtype)
    found = gray_of(rgb)
    assert found.dtype == dtype and found.shape == (5, 6, 1)
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    assert np.abs(found[..., 0] - luma).max() < (1e-3 if dtype == np.float32 else 0.51)


def test_a_gray_net_of_8_bit_takes_rgb_and_a_deeper_one_gray() -> None:
    rgb = pixels(3)
    np.testing.assert_array_equal(Fit(GRAY)(rgb), rgb)
    twelve = pixels(3, np.uint16, 4096)
    spec = deep(("gray",))
    np.testing.assert_array_equal(Fit(spec)(twelve), gray_of(twelve))
    np.testing.assert_array_equal(Fit(spec)(twelve[..., :1]), twelve[..., :1])


def test_other_channels_are_picked_by_name_or_taken_in_order() -> None:
    frame = pixels(4, np.uint16, 4096)
    spec = deep(NIR)
    assert spec.frame_channels == NIR
    np.testing.assert_array_equal(Fit(spec)(frame), frame)
    order = ("nir", "blue", "green", "red")
    picked = frame[..., [3, 2, 1, 0]]
    np.testing.assert_array_equal(Fit(spec)(frame, order), picked)
    np.testing.assert_array_equal(Fit(spec, Reading(channels=order))(frame), picked)
    np.testing.assert_array_equal(Fit(spec, Reading(channels=order))(frame, NIR), picked)


@pytest.mark.parametrize(
    ("spec", "count", "named", "words"),
    [
        (PLAIN, 2, (), "frame has 2 channels; the net takes red, green, blue. Name the channels"),
        (PLAIN, 2, ("red", "green"), "2 channels, red, green, and lacks blue. Name the channels"),
        (deep(NIR), 5, (), "frame has 5 channels; the net takes red, green, blue, nir. Name"),
        (deep(NIR), 3, RGB, "3 channels, red, green, blue, and lacks nir. Name the channels"),
        (deep(NIR), 1, ("gray",), "1 channel, gray, and lacks red, green, blue, nir. Name"),
    ],
)
def test_channels_that_a_frame_lacks_are_named(
    spec: InputSpec, count: int, named: tuple[str, ...], words: str
) -> None:
    message = refusal(Fit(spec), pixels(count, spec.depth), named)
    assert words in message and "--channels" in message


def test_names_must_be_as_many_as_the_channels() -> None:
    fit = Fit(PLAIN, Reading(channels=("bgr",)))
    assert refusal(fit, pixels(4)) == "frame has 4 channels; --channels names 3, blue, green, red."


@pytest.mark.parametrize(
    ("channels", "count", "usual"),
    [
        ((), 1, True),
        ((), 3, True),
        ((), 4, False),
        ((*RGB, "alpha"), 4, True),
        (("gray", "alpha"), 2, True),
        (NIR, 4, False),
        (("red",), 1, False),
    ],
)
def test_usual_channels_are_gray_and_rgb(
    channels: tuple[str, ...], count: int, usual: bool
) -> None:
    assert is_usual(channels, count) == usual


# Levels


def test_depth_of_the_net_stays_as_it_is() -> None:
    for depth in ("uint8", "uint16", "int16", "float32"):
        frame = pixels(3, depth)
        fitted = Fit(deep(RGB, depth, (-5, 300)))(frame)
        assert fitted.dtype == depth
        np.testing.assert_array_equal(fitted, frame)


@pytest.mark.parametrize(
    ("value", "eight"),
    [(0, 0), (128, 0), (129, 1), (257, 1), (32767, 127), (32768, 128), (65406, 254), (65535, 255)],
)
def test_sixteen_bit_is_rounded_for_a_net_of_8(value: int, eight: int) -> None:
    assert (Fit(PLAIN)(np.full((1, 1), value, np.uint16)) == eight).all()


def test_sixteen_bit_for_a_net_of_8_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    fit = Fit(PLAIN)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            fit(np.full((2, 2), 60_000, np.uint16), name="a.tif")
    assert caplog.messages == ["a.tif is 16 bit, which the net takes as 8 bit: 65535 becomes 255."]
    told: list[str] = []
    Fit(PLAIN, tell=told.append)(np.full((2, 2), 4080, np.uint16), name="b.tif")
    assert "its largest value is 4080" in told[0] and "--levels 0,4095" in told[0]


@pytest.mark.parametrize(
    ("largest", "white"), [(0, 255), (255, 255), (256, 511), (4080, 4095), (8191, 8191), (8192, 0)]
)
def test_few_bits_name_the_levels_that_they_have(largest: int, white: int) -> None:
    note = few_bits(largest)
    assert note.endswith(f"--levels 0,{white}.") if white else note == ""


@pytest.mark.parametrize("spec", [PLAIN, deep(RGB), deep(RGB, "int16"), deep(RGB, "float32")])
@pytest.mark.parametrize("depth", ["uint8", "uint16", "int16", "float32"])
def test_another_depth_is_an_error_that_names_the_option(spec: InputSpec, depth: str) -> None:
    if depth == spec.depth or (depth, spec.depth) == ("uint16", "uint8"):
        return
    message = refusal(Fit(spec), pixels(3, depth))
    assert f"frame is {depth}; the net takes {spec.depth}" in message
    assert re.search(r"--levels LO,HI, such as --levels -?\d+,\d+\.$", message)


@pytest.mark.parametrize("dtype", [np.float64, bool, np.int8, np.int32, np.uint32, np.complex64])
def test_other_types_are_refused(dtype: Any) -> None:
    message = refusal(Fit(PLAIN), np.zeros((2, 2, 3), dtype))
    assert message.startswith(f"frame is {np.dtype(dtype)}; expected uint8. Say which raw values")


def test_told_levels_turn_any_depth_into_the_nets() -> None:
    twelve = pixels(3, np.uint16, 4096)
    fitted = Fit(PLAIN, Reading(levels=(0, 4095)))(twelve)
    assert fitted.dtype == np.float32
    np.testing.assert_allclose(fitted, twelve * (255 / 4095), rtol=1e-6)
    ct = pixels(1, np.int16, 4000) - np.int16(1000)
    fitted = Fit(deep(("gray",), "float32", (0, 1)), Reading(levels=(-1000, 3000)))(ct)
    np.testing.assert_allclose(fitted, (ct + 1000.0) / 4000, atol=1e-6)
    unit = pixels(3, np.float64) / 255
    np.testing.assert_allclose(Fit(PLAIN, Reading(levels=(0, 1)))(unit), unit * 255, atol=1e-4)
    eight = Fit(PLAIN, Reading(levels=(0, 255)))(pixels(3))
    assert eight.dtype == np.uint8


def test_told_levels_make_frames_of_a_gray_net_gray() -> None:
    fit = Fit(GRAY, Reading(levels=(0, 4095)))
    assert fit.channels == ("gray",)
    assert fit(pixels(3, np.uint16, 4096)).shape == (5, 6, 1)


def test_values_that_are_not_finite_are_refused() -> None:
    frame = pixels(3, np.float32)
    frame[0, 0, 0] = np.nan
    fit = Fit(deep(RGB, "float32", (0, 1)))
    assert "holds values that are not finite" in refusal(fit, frame)


@pytest.mark.parametrize(
    "shape", [(), (4,), (1, 4, 4, 3), (0, 4), (4, 0), (0, 4, 3), (4, 0, 3), (4, 4, 0)]
)
def test_other_dimensions_and_empty_frames_are_refused(shape: tuple[int, ...]) -> None:
    message = refusal(Fit(PLAIN), np.zeros(shape, np.uint8))
    assert message == f"frame has shape {shape}; expected (H, W) or (H, W, C)."


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"levels": (255, 0)}, "levels are 255, 0; expected two finite values"),
        ({"levels": (1,)}, "levels are 1;"),
        ({"levels": (0, np.inf)}, "levels are 0, inf;"),
        ({"channels": ("red", "red")}, "'red' occurs twice"),
        ({"channels": ("a\x1b[31m",)}, r"'a\x1b[31m' is no name of a channel"),
        ({"channels": ()}, "expected 1 to 64 names, got 0"),
    ],
)
def test_readings_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        Reading(**options)


# Files and pictures


def test_training_reads_16_bit_as_run_does(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 40000, 65535]], np.uint16)
    frame = Fit(PLAIN).read(write_png(tmp_path / "a.png", values))
    np.testing.assert_array_equal(frame, np.dstack([to_8bit(values)] * 3))
    gray = Fit(PLAIN, channels=("gray",)).read(tmp_path / "a.png")
    assert gray[0, :, 0].tolist() == [0, 0, 1, 156, 255]


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(cv2.imencode(".tif", pixels(1, np.float32))[1].tobytes())
    with pytest.raises(FrameError, match=r"a\.tif is float32; the net takes uint8.*--levels LO,HI"):
        Fit(PLAIN).read(path)


def test_visible_shows_rgb_or_gray_or_the_first_channel() -> None:
    frame = pixels(4, np.uint16, 4096)
    seen = visible(frame, ("nir", "blue", "green", "red"), (0, 4095))
    np.testing.assert_array_equal(seen, np.rint(frame[..., 3:0:-1] / 4095 * 255))
    seen = visible(frame, ("a", "gray", "b", "c"), (0, 4095))
    np.testing.assert_array_equal(seen[..., 2], np.rint(frame[..., 1] / 4095 * 255))
    assert visible(frame, ("a", "b", "c", "d"), (4000, 4095)).min() == 0
    plain = pixels(3)
    assert visible(plain, RGB, (0, 255)) is plain
    gray = np.full((2, 3, 1), 7, np.uint8)  # of a gray net, which takes RGB too
    assert visible(gray, RGB, (0, 255)).tolist() == np.full((2, 3, 3), 7).tolist()
