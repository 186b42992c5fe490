"""nnU-Net's algorithm: normalisation, where windows lie, and how they are averaged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeunet.exporting.origins.nnunet_predictor import (
    SCHEMES,
    _filled,
    _gaussian,
    _starts,
    normalise,
    predict,
)

VALUES = np.array([[0, 10, 20], [30, 0, 255]], np.float32)


@pytest.mark.parametrize(
    ("scheme", "wanted"),
    [
        ("ZScoreNormalization", (VALUES - VALUES.mean()) / VALUES.std()),
        ("RescaleTo01Normalization", VALUES / 255),
        ("RGBTo01Normalization", VALUES / 255),
        ("NoNormalization", VALUES),
    ],
)
def test_schemes(scheme: str, wanted: Any) -> None:
    assert scheme in SCHEMES
    np.testing.assert_allclose(normalise(VALUES, scheme, None), wanted, rtol=1e-6)


def test_mask_leaves_zeros_outside() -> None:
    inside = VALUES > 0
    found = normalise(VALUES, "ZScoreNormalization", inside)
    assert (found[~inside] == 0).all()
    assert abs(found[inside].mean()) < 1e-6
    assert found[inside].std() == pytest.approx(1)


def test_plain_image_is_zero() -> None:
    assert (normalise(np.full((2, 2), 7, np.float32), "ZScoreNormalization", None) == 0).all()


def test_what_is_not_reached_from_outside_is_filled() -> None:
    mask = np.random.default_rng(0).random((40, 50)) > 0.4
    outside = np.pad(np.zeros_like(mask), 1, constant_values=True)
    free = np.pad(~mask, 1, constant_values=True)
    for _ in range(mask.size):  # each step reaches the neighbours along the axes
        reached = outside.copy()
        for axis in (0, 1):
            for step in (-1, 1):
                reached |= np.roll(outside, step, axis) & free
        if np.array_equal(reached, outside):
            break
        outside = reached
    wanted = ~outside[1:-1, 1:-1]
    assert np.array_equal(_filled(mask), wanted)
    assert (wanted & ~mask).any()


def test_weights_are_a_gaussian_of_an_eighth_of_the_side() -> None:
    wanted = [0.000335, 0.011109, 0.135335, 0.606531, 1, 0.606531, 0.135335, 0.011109]
    np.testing.assert_allclose(_gaussian(8), wanted, atol=1e-6)
    assert _gaussian(33).argmax() == 16


@pytest.mark.parametrize(
    ("side", "window", "wanted"),
    [(32, 32, [0]), (33, 32, [0, 1]), (110, 64, [0, 23, 46]), (64, 32, [0, 16, 32])],
)
def test_windows_are_spread_evenly(side: int, window: int, wanted: list[int]) -> None:
    assert _starts(side, window) == wanted


def test_windows_that_agree_give_the_net_of_the_whole_image() -> None:
    image = np.random.default_rng(0).integers(1, 256, (37, 53, 1), np.uint8)
    seen = []

    def bright(window: Any) -> Any:
        seen.append(window.shape)
        return np.concatenate([0 * window, window], 1)

    ids = predict(bright, image, (16, 24), scheme="ZScoreNormalization", masked=False)
    assert np.array_equal(ids, image[..., 0] > image.mean())
    assert set(seen) == {(1, 1, 16, 24)}


@pytest.mark.parametrize("size", [(5, 60), (60, 5), (3, 4)])
def test_images_smaller_than_a_window_lie_in_its_middle(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(1, 256, (*size, 2), np.uint8)
    places = lambda window: np.concatenate([0 * window, window], 1)  # noqa: E731
    ids = predict(places, image, (16, 24), scheme="NoNormalization", masked=False)
    assert np.array_equal(ids, 2 + (image[..., 1] > image[..., 0]))


def test_what_is_empty_is_background() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    image[5:9, 4:12] = 9
    ones = lambda window: np.stack([0 * window[:, 0], 1 + 0 * window[:, 0]], 1)  # noqa: E731
    ids = predict(ones, image, (4, 4), scheme="ZScoreNormalization", masked=True)
    wanted = np.zeros((20, 20))
    wanted[5:9, 4:12] = 1
    assert np.array_equal(ids, wanted)
    assert predict(ones, 0 * image, (4, 4), scheme="NoNormalization", masked=False).all()
