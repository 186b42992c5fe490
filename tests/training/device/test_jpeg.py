"""JPEG without the file: as libjpeg does it."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.training.device.jpeg import compressed, quantization
from support.light import in_jpeg, wavy


@given(quality=st.integers(1, 100))
def test_steps_are_those_of_libjpeg(quality: int) -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    written = []
    order = sorted(np.ndindex(8, 8), key=lambda at: (sum(at), at[1 - sum(at) % 2]))
    for number in (0, 1):  # a table after the other: marker, length, number, 64 steps
        start = content.index(b"\xff\xdb") + number * 69
        zigzag = np.frombuffer(content[start + 5 : start + 69], np.uint8)
        table = np.zeros((8, 8), np.uint8)
        table[tuple(np.transpose(order))] = zigzag
        written.append(table)
    assert np.array_equal(np.stack(written), quantization(quality))


@given(
    # A smaller one is one block of colour: a coefficient rounded to the other step moves all of it.
    height=st.integers(16, 50),
    width=st.integers(16, 50),
    channels=st.sampled_from([1, 3]),
    quality=st.integers(30, 100),
    seed=st.integers(0, 2**32 - 1),
)
def test_picture_is_that_of_opencv(
    height: int, width: int, channels: int, quality: int, seed: int
) -> None:
    picture = wavy((height, width, channels), seed)
    found = through((picture,), quality)[0]
    wanted = in_jpeg(picture, quality).astype(np.float32)
    # Where a coefficient is rounded to the other step, its block has other pixels.
    assert np.abs(found - wanted).mean() < 0.3 + 0.15 * np.abs(picture - wanted).mean()
    assert (np.abs(found - wanted) > 1).mean() < 0.25
    assert found.min() >= 0 and found.max() <= 255 and not (found % 1).any()


def test_most_pixels_are_those_of_opencv() -> None:
    pictures = [wavy((48, 64, 3), seed) for seed in range(16)]
    for quality in (30, 60, 90):
        found = through(pictures, quality)
        wanted = np.stack([in_jpeg(each, quality) for each in pictures])
        assert np.abs(wanted.astype(float) - np.stack(pictures)).mean() > 0.5
        assert (np.abs(found - wanted) > 1).mean() < 0.03


def test_each_picture_has_its_own_quality() -> None:
    picture = wavy((32, 32, 1), 0)
    good, bad = (quantization(quality) for quality in (100, 10))
    pictures = torch.from_numpy(np.stack([picture, picture])).float()
    found = compressed(pictures, torch.from_numpy(np.stack([good, bad]))).numpy()
    errors = np.abs(found - picture).mean((1, 2, 3))
    assert errors[0] < 1.5 and errors[1] > 3 * errors[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_plain_picture_stays(channels: int) -> None:
    picture = np.full((20, 12, channels), 128, np.uint8)
    assert np.array_equal(through([picture], 40)[0], picture)


def through(pictures: list[npt.NDArray[np.uint8]], quality: int) -> npt.NDArray[np.float32]:
    steps = torch.from_numpy(np.stack([quantization(quality)] * len(pictures)))
    found: npt.NDArray[np.float32] = compressed(
        torch.from_numpy(np.stack(pictures)).float(), steps
    ).numpy()
    return found
