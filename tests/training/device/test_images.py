"""Pixels of crops on a device: those of `Warp`, from images of several sizes."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.metrics import IGNORE
from edgeunet.training.augment import Augmentation, Geometry
from edgeunet.training.device.images import Images, coordinates, inner, mirrored, onto

sizes = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=4)
seeds = st.integers(0, 2**32 - 1)


def drawn(augment: Augmentation, of: list[tuple[int, int]], seed: int) -> list[Geometry]:
    rng = np.random.default_rng(seed)
    return [augment.draw(size, rng) for size in of]


def stacked(geometries: list[Geometry]) -> tuple[torch.Tensor, torch.Tensor]:
    bends = [each.bend for each in geometries if each.bend is not None]
    return (
        torch.from_numpy(np.stack([each.matrix for each in geometries])),
        torch.from_numpy(np.stack(bends)) if bends else torch.empty(0, 2, 3, 3),
    )


@given(length=st.integers(1, 9), index=st.integers(-60, 60))
def test_mirrored_index_is_that_of_opencv(length: int, index: int) -> None:
    wanted = cv2.borderInterpolate(index, length, cv2.BORDER_REFLECT_101)
    assert mirrored(torch.tensor([index]), length).item() == wanted


@given(of=sizes, elastic=st.sampled_from([0.0, 4.0]), margin=st.integers(0, 5), seed=seeds)
def test_pixels_are_those_of_the_warps(
    of: list[tuple[int, int]], elastic: float, margin: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    augment = Augmentation((24, 32), scale=(0.5, 1.6), elastic=elastic, margin=margin, rotation=20)
    geometries = drawn(augment, of, seed)
    images = [rng.integers(0, 256, (*size, 3)).astype(np.float32) for size in of]
    masks = [rng.integers(0, 5, (2 * rows, columns, 1), np.uint8) for rows, columns in of]
    image = torch.arange(len(of)).flip(0)  # another order than that of the images
    flipped = geometries[::-1]
    at = coordinates(*stacked(flipped), augment.size)
    store, ids = (
        Images.of([torch.from_numpy(each) for each in group]) for group in (images, masks)
    )
    pixels, beyond = store.bilinear(image, at), store.outside(image, at)
    within = onto(inner(at, margin), store.sizes[image], ids.sizes[image])
    classes = ids.nearest(image, within, outside=IGNORE)
    for index, (geometry, number) in enumerate(zip(flipped, image.tolist(), strict=True)):
        warp = geometry.warp(*augment.size)
        np.testing.assert_allclose(at[0][index], warp.x, atol=1e-4)
        np.testing.assert_allclose(at[1][index], warp.y, atol=1e-4)
        # OpenCV may look coordinates up in 32nds of a pixel.
        difference = np.abs(pixels[index].numpy() - warp.image(images[number]))
        assert difference.max() < 256 / 16 and difference.mean() < 4
        mask = masks[number][..., 0]
        wanted = warp.inner(margin).onto(mask.shape, of[number]).mask(mask)
        assert (classes[index, ..., 0].numpy() != wanted).mean() < 0.005
        assert (beyond[index, ..., 0].numpy() != warp.outside(of[number])).mean() < 0.005


def test_crop_without_changes_is_the_image_itself() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (12, 16, 3), np.uint8)
    still = Augmentation((12, 16), scale=(1, 1), rotation=0)
    geometries = drawn(still, [(12, 16)] * 6, 0)
    store = Images.of([torch.from_numpy(image)])
    found = store.bilinear(
        torch.zeros(6, dtype=torch.int64), coordinates(*stacked(geometries), (12, 16))
    )
    directions = {
        direction
        for pixels in found
        for direction in (1, -1)
        if np.array_equal(pixels.numpy(), image[:, ::direction])
    }
    assert directions == {1, -1}
    assert all(
        np.array_equal(pixels, image) or np.array_equal(pixels, image[:, ::-1])
        for pixels in found.numpy()
    )


@pytest.mark.parametrize("elastic", [0.0, 6.0])
def test_integers_are_read_exactly_between_pixels(elastic: float) -> None:
    """A plane that grows evenly has its coordinates as values."""
    augment = replace(Augmentation((16, 16), scale=(0.8, 1.2)), elastic=elastic)
    rows, columns = np.mgrid[:64, :64].astype(np.float32)
    store = Images.of([torch.from_numpy(np.stack([columns, rows], -1))])
    at = coordinates(*stacked(drawn(augment, [(64, 64)] * 4, 1)), augment.size)
    found = store.bilinear(torch.zeros(4, dtype=torch.int64), at)
    inside = ~store.outside(torch.zeros(4, dtype=torch.int64), at)[..., 0]
    inside &= (at[0] >= 0) & (at[0] <= 63) & (at[1] >= 0) & (at[1] <= 63)
    assert inside.float().mean() > 0.9
    for axis in (0, 1):
        np.testing.assert_allclose(found[..., axis][inside], at[axis][inside], atol=1e-4)
