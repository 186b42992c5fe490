"""Photometry: only values change, within their depth and in the ranges that are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.training.photometry import PHOTOMETRY, Photometry

seeds = st.integers(0, 2**32 - 1)


def picture(seed: int = 0, channels: int = 3) -> npt.NDArray[np.uint8]:
    """Smooth, so that blur and JPEG change it little."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:40, :56]
    waves = [np.sin(rows / rng.uniform(4, 9)) + np.cos(columns / 8) for _ in range(channels)]
    return (np.stack(waves, -1) * 40 + 120).astype(np.uint8)


@pytest.mark.parametrize("name", PHOTOMETRY)
@given(
    depth=st.sampled_from([np.uint8, np.uint16, np.float32]),
    channels=st.sampled_from([1, 2, 3, 4]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=seeds,
)
def test_shape_and_depth_stay(
    name: str, depth: type, channels: int, height: int, width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    white = 1.0 if depth is np.float32 else float(np.iinfo(depth).max)
    crop = (rng.random((height, width, channels)) * white).astype(depth)
    before = crop.copy()
    photometry = replace(PHOTOMETRY[name], often=1.0)
    first, second = (
        photometry.apply(crop, np.random.default_rng(seed), (0.0, white)) for _ in range(2)
    )
    assert np.array_equal(crop, before)
    assert np.array_equal(first, second)
    assert first.shape == crop.shape
    assert first.dtype == (np.uint8 if depth is np.uint8 else np.float32)
    assert np.isfinite(first).all()
    if depth is not np.float32:
        assert first.min() >= 0 and first.max() <= white


@given(seed=seeds, channels=st.sampled_from([1, 3]))
def test_without_ranges_nothing_changes(seed: int, channels: int) -> None:
    crop = picture(seed, channels)
    assert np.array_equal(Photometry().apply(crop, np.random.default_rng(seed)), crop)


def test_deeper_pictures_change_as_those_of_8_bit() -> None:
    photometry = replace(PHOTOMETRY["camera"], noise=0.0, jpeg=0)
    crop = picture()
    for seed in range(20):
        eight = photometry.apply(crop, np.random.default_rng(seed))
        deep = photometry.apply(
            crop.astype(np.uint16) * 257, np.random.default_rng(seed), (0.0, 65535.0)
        )
        assert np.abs(eight - deep / 257).max() <= 6  # 8 bit rounds after each step


def test_light_becomes_brighter_and_darker_without_turning_levels_around() -> None:
    crop = np.tile(np.array([0, 128, 255], np.uint8)[:, None], (8, 8))[..., None].repeat(3, 2)
    photometry = replace(PHOTOMETRY["mild"], tint=0.0)
    means = []
    for seed in range(20):
        after = photometry.apply(crop, np.random.default_rng(seed))
        order = np.argsort(crop, axis=None, kind="stable")
        assert (np.diff(after.ravel()[order].astype(int)) >= 0).all()
        means.append(after.mean() - crop.mean())
    assert min(means) < -5
    assert max(means) > 5


@pytest.mark.parametrize("name", PHOTOMETRY)
def test_dark_pictures_keep_what_is_in_them(name: str) -> None:
    """A shift by a share of the whole range would make them black."""
    crop = np.arange(10, 50, dtype=np.uint8).reshape(5, 8, 1)
    for seed in range(50):
        photometry = replace(PHOTOMETRY[name], often=0.0)
        after = photometry.apply(crop, np.random.default_rng(seed))
        assert len(np.unique(after)) >= 10
        assert after.max() > 0


def test_gamma_keeps_black_and_white() -> None:
    crop = np.array([0, 64, 255], np.uint8).reshape(1, 3, 1)
    middles = set()
    for seed in range(20):
        black, middle, white = Photometry(gamma=0.5).apply(crop, np.random.default_rng(seed)).flat
        assert (black, white) == (0, 255)
        middles.add(int(middle))
    assert min(middles) < 50 and max(middles) > 80


def test_tint_changes_channels_apart() -> None:
    crop = np.full((4, 4, 3), 100, np.uint8)
    after = Photometry(tint=0.15).apply(crop, np.random.default_rng(0))
    assert len({*after[0, 0]}) > 1
    assert after.min() >= 86 and after.max() <= 117


def test_shadow_darkens_one_side_alone() -> None:
    crop = np.full((60, 60, 1), 200, np.uint8)
    for seed in range(20):
        after = Photometry(often=1.0, shadow=0.4).apply(crop, np.random.default_rng(seed))
        assert after.max() <= 200 and after.min() >= 200 * 0.4 - 1
    assert any(
        np.ptp(Photometry(often=1.0, shadow=0.4).apply(crop, np.random.default_rng(seed))) > 40
        for seed in range(20)
    )


def test_blur_noise_and_jpeg_do_what_they_say() -> None:
    crop = np.zeros((32, 32, 3), np.uint8) + 128
    crop[:, 16:] = 160

    def changed(**ranges: float) -> npt.NDArray[np.float64]:
        photometry = replace(Photometry(often=1.0), **ranges)
        return np.stack(
            [
                photometry.apply(crop, np.random.default_rng(seed)).astype(float) - crop
                for seed in range(40)
            ]
        )

    blurred, noisy, compressed = changed(blur=1.2), changed(noise=0.04), changed(jpeg=30)
    assert not blurred[:, :, :10].any() and blurred[:, :, 15:17].any()
    assert noisy.std() == pytest.approx(0.04 * 255 / 3**0.5, rel=0.2)  # uniform up to the largest
    assert abs(noisy.mean()) < 0.2
    assert compressed.any() and np.abs(compressed).mean() < 3


def test_jpeg_takes_channels_as_red_green_blue() -> None:
    crop = np.zeros((16, 16, 3), np.uint8)
    crop[..., 0] = 255
    after = Photometry(often=1.0, jpeg=90).apply(crop, np.random.default_rng(0))
    assert after[..., 0].min() > 240 and after[..., 2].max() < 15


@given(seed=seeds)
def test_often_is_the_share_of_crops(seed: int) -> None:
    crop = picture()
    rng = np.random.default_rng(seed)
    photometry = Photometry(often=0.3, noise=0.1)
    changed = [not np.array_equal(photometry.apply(crop, rng), crop) for _ in range(60)]
    assert 3 <= sum(changed) <= 36
