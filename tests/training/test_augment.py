"""Augmentation: image and mask stay aligned."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.metrics import IGNORE, boundary, dilate
from edgeunet.training.augment import Augmentation, Flip, displacement, elastic_vectors

sides = st.integers(8, 80)
sizes = st.tuples(sides, sides)
seeds = st.integers(0, 2**32 - 1)


def augmented(
    augment: Augmentation,
    image: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Crop of an image and its mask, as training takes it."""
    warp = augment.warp(mask.shape, rng)
    return warp.image(image), warp.mask(mask)


def augmentation(crop: tuple[int, int], **arguments: Any) -> Augmentation:
    return Augmentation(crop, **{"scale": (0.5, 1.6), **arguments})


@given(size=sizes, crop=sizes, channels=st.sampled_from([1, 3]), seed=seeds)
def test_augmentation_gives_the_crop_with_the_masks_ids(
    size: tuple[int, int], crop: tuple[int, int], channels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, channels), np.uint8)
    mask = rng.choice(np.array([1, 4, 7], np.uint8), size)
    given_image, given_mask = image.copy(), mask.copy()
    pixels, classes = augmented(Augmentation(crop, scale=(0.5, 1.6), elastic=3), image, mask, rng)
    assert pixels.shape == (*crop, channels)
    assert classes.shape == crop
    assert pixels.dtype == classes.dtype == np.uint8
    assert set(np.unique(classes)) <= {*np.unique(mask), IGNORE}
    assert np.array_equal(image, given_image) and np.array_equal(mask, given_mask)


@pytest.mark.parametrize("elastic", [0, 4])
@given(size=st.tuples(st.integers(24, 80), st.integers(24, 80)), seed=seeds)
def test_image_and_mask_stay_aligned(elastic: float, size: tuple[int, int], seed: int) -> None:
    height, width = size
    image = np.zeros((height, width, 3), np.uint8)
    # Off the centre and not square, so that a flip or a swap of the axes of one is seen.
    square = np.s_[height // 8 : height // 2, width // 4 : width * 5 // 6]
    image[square] = (255, 0, 255)
    mask = np.zeros(size, np.uint8)
    mask[square] = 1
    augment = augmentation((48, 64), rotation=15, elastic=elastic)
    pixels, classes = augmented(augment, image, mask, np.random.default_rng(seed))
    counted = classes != IGNORE
    assert counted.any()
    seen = pixels[..., 0] > 127
    wrong = (seen != (classes == 1)) & counted
    assert wrong[counted].mean() <= 0.03
    assert not (wrong & ~dilate(boundary(classes), 1)).any()  # nearest against bilinear: edges only


@given(size=sizes, factor=st.sampled_from([1, 2, 3]), seed=seeds)
def test_crop_of_an_enlarged_picture_is_the_same_crop(
    size: tuple[int, int], factor: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.choice(np.array([1, 4, 7], np.uint8), size)
    large = mask.repeat(factor, 0).repeat(factor, 1)
    warp = augmentation((40, 40), rotation=10).warp(size, rng)
    here, there = warp.mask(mask), warp.onto(large.shape, size).mask(large)
    # cv2 looks up coordinates in 32nds of a pixel: at a pixel's border either may be the nearest.
    assert (here != there).mean() < 0.1
    assert warp.onto(size, size) is warp


@given(seed=seeds)
def test_same_generator_gives_the_same_sample(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (40, 40, 3), np.uint8)
    mask = rng.integers(0, 3, (40, 40), np.uint8)
    augment = Augmentation((32, 32), scale=(0.5, 1.6))
    first, second, other = (
        augmented(augment, image, mask, np.random.default_rng(start))
        for start in (seed, seed, seed + 1)
    )
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("flip", "expected"),
    [
        ("none", {(1, 1)}),
        ("horizontal", {(1, 1), (1, -1)}),
        ("both", {(1, 1), (1, -1), (-1, 1), (-1, -1)}),
    ],
)
def test_without_any_range_the_sample_is_the_image_or_its_mirror_image(
    flip: Flip, expected: set[tuple[int, int]]
) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (16, 24, 3), np.uint8)
    mask = rng.integers(0, 3, (16, 24), np.uint8)
    augment = augmentation((16, 24), scale=(1, 1), rotation=0, flip=flip)
    directions = set()
    for seed in range(32):
        pixels, classes = augmented(augment, image, mask, np.random.default_rng(seed))
        (direction,) = (
            (down, across)
            for down, across in product((1, -1), repeat=2)
            if np.array_equal(pixels, image[::down, ::across])
        )
        assert np.array_equal(classes, mask[:: direction[0], :: direction[1]])
        directions.add(direction)
    assert directions == expected


def test_what_lies_outside_the_image_is_ignored() -> None:
    image, mask = np.full((8, 8, 3), 100, np.uint8), np.ones((8, 8), np.uint8)
    augment = augmentation((32, 32), scale=(1, 1), rotation=0)
    _, classes = augmented(augment, image, mask, np.random.default_rng(0))
    assert set(np.unique(classes)) == {1, IGNORE}
    assert np.count_nonzero(classes == 1) == 64
    assert (classes[0] == IGNORE).all() and (classes[:, 0] == IGNORE).all()


def test_margin_is_context_around_the_same_crop() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 48, 3), np.uint8)
    bare = augmentation((32, 32), rotation=10)
    wide = augmentation((32, 32), rotation=10, margin=12)
    for seed in range(4):
        small = bare.warp((40, 48), np.random.default_rng(seed))
        large = wide.warp((40, 48), np.random.default_rng(seed))
        assert large.x.shape == (56, 56)
        np.testing.assert_allclose(large.inner(12).x, small.x, atol=1e-4)
        np.testing.assert_allclose(large.inner(12).y, small.y, atol=1e-4)
        # Beyond the image its mirror image is seen, as U-Net's paper has it.
        assert large.image(image).min(axis=2)[[0, -1]].std() > 20


def test_elastic_displacements_are_smooth_and_as_large_as_asked_for() -> None:
    fields = np.stack(
        [
            displacement(elastic_vectors(10, np.random.default_rng(seed)), 64, 80)
            for seed in range(200)
        ]
    )
    assert fields.shape == (200, 2, 64, 80)
    # The middle of each cell of the 3x3 grid is a grid point.
    assert fields[:, :, 32, 40].std() == pytest.approx(10, rel=0.1)
    assert abs(fields.mean()) < 1
    assert np.abs(np.diff(fields, axis=2)).max() < 4  # pixels from one row to the next
    assert fields[0].std() > 1
    assert not displacement(elastic_vectors(0, np.random.default_rng(0)), 8, 8).any()
