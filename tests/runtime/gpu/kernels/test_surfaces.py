"""A video decoder's surfaces to RGB in CUDA, compiled for the host, against FFmpeg."""

from __future__ import annotations

from fractions import Fraction
from itertools import product, starmap
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.runtime.gpu.kernels.surfaces import SPACES, RgbKernel, Surface
from edgeunet.runtime.sources.video import Pixels, Turn
from support.device_arrays import Array, Placed, place
from support.host_kernels import load_host_kernels

SIDES = st.integers(8, 40).map(lambda half: 2 * half)
FULL = 2


def surface(planes: list[Array], gaps: tuple[int, int]) -> tuple[Surface, list[Placed]]:
    """NV12 of planes Y, U and V, whose rows are so many bytes apart."""
    luma, u, v = planes
    height, width = luma.shape
    chroma = np.stack([u, v], axis=-1).reshape(len(u), width)
    placed = []
    for rows, gap in zip((luma, chroma), gaps, strict=True):
        apart = np.full((len(rows), width + gap), 255, np.uint8)
        apart[:, :width] = rows
        placed.append(place(apart, np.uint8))
    addresses = [each.address for each in placed]
    return Surface(*addresses, width + gaps[0], width + gaps[1], height, width), placed


def converted(
    planes: list[Array],
    *,
    space: int = 1,
    full_range: bool = False,
    centred: tuple[bool, bool] = (True, True),
    turn: Turn = Turn(),  # noqa: B008 - it cannot change
    gaps: tuple[int, int] = (0, 0),
) -> Array:
    height, width = planes[0].shape
    out = Placed((width, height, 3) if turn.swapped else (height, width, 3), np.uint8)
    kernel = RgbKernel(load_host_kernels(), space=space, full_range=full_range, centred=centred)
    source, placed = surface(planes, gaps)
    kernel(source, turn, out=out.address, stream=None)
    for each in placed:
        each.written()
    return out.written()


def noise(size: tuple[int, int], seed: int = 0, *, tame: bool = True) -> list[Array]:
    """Planes Y, U and V. tame: of colours that RGB has, more or less."""
    rng = np.random.default_rng(seed)
    half = size[0] // 2, size[1] // 2
    low, high = (64, 192) if tame else (0, 256)
    return [rng.integers(low, high, each, np.uint8) for each in (size, half, half)]


def by_ffmpeg(planes: list[Array], frame: Any) -> Array:
    """What FFmpeg makes of planes that are drawn into a frame."""
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.buffer_size // plane.line_size, plane.line_size), np.uint8)
        rows[: len(values), : values.shape[1]] = values
        plane.update(rows.tobytes().ljust(plane.buffer_size, b"\0"))
    return Pixels(av)(frame)


def differences(found: Array, wanted: Array) -> Array:
    return np.abs(found.astype(int) - wanted)


@given(
    size=st.tuples(SIDES, SIDES),
    seed=st.integers(0, 2**32 - 1),
    space=st.sampled_from(sorted(SPACES)),
    full_range=st.booleans(),
    gaps=st.tuples(st.integers(0, 70), st.integers(0, 70)),
)
def test_colours_are_those_of_ffmpeg_to_a_level(
    size: tuple[int, int], seed: int, space: int, full_range: bool, gaps: tuple[int, int]
) -> None:
    planes = noise(size, seed)
    frame = av.VideoFrame(size[1], size[0], "yuv420p")
    frame.colorspace, frame.color_range = space, FULL if full_range else 1
    found = converted(planes, space=space, full_range=full_range, gaps=gaps)
    wrong = differences(found, by_ffmpeg(planes, frame))
    assert wrong.max() <= 1
    assert wrong.mean() < 0.02


@pytest.mark.parametrize(("chromaloc", "centred"), [(0, (True, False)), (2, (False, False))])
def test_chroma_lies_where_the_video_says(chromaloc: int, centred: tuple[bool, bool]) -> None:
    size = (48, 64)
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = size
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    encoder.options = {"x264-params": f"chromaloc={chromaloc}"}
    packets = [*encoder.encode(av.VideoFrame(64, 48, "yuv420p")), *encoder.encode(None)]
    decoder = av.CodecContext.create("h264", "r")
    (frame,) = [f for packet in [*packets, None] for f in decoder.decode(packet)]
    planes = noise(size)
    found = converted(planes, space=2, centred=centred)
    wanted = by_ffmpeg(planes, frame)
    assert differences(found, wanted).max() <= 1
    assert differences(converted(planes, space=2), wanted).mean() > 1


def test_colours_that_rgb_lacks_are_clipped() -> None:
    found = converted(noise((64, 64), tame=False), space=9, full_range=True)
    assert (found.min(), found.max()) == (0, 255)
    bright = [np.full((2, 2), 255, np.uint8), *np.full((2, 1, 1), 255, np.uint8)]
    assert converted(bright, space=1)[0, 0].tolist() == [255, 184, 255]
    dark = [np.zeros((2, 2), np.uint8), *np.zeros((2, 1, 1), np.uint8)]
    assert converted(dark, space=1)[0, 0].tolist() == [0, 77, 0]


@pytest.mark.parametrize("turn", starmap(Turn, product([False, True], repeat=3)))
def test_every_turn_is_that_of_the_array(turn: Turn) -> None:
    planes = noise((10, 36))
    plain = converted(planes)
    wanted = plain.swapaxes(0, 1) if turn.swapped else plain
    wanted = wanted[:: -1 if turn.down else 1, :: -1 if turn.across else 1]
    np.testing.assert_array_equal(converted(planes, turn=turn, gaps=(3, 5)), wanted)
