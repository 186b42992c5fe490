"""Drawn crops, put together."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from edgeunet.training.augment import Augmentation
from edgeunet.training.crops import Drawn
from edgeunet.training.device.drawings import pack
from edgeunet.training.photometry import Light, Shadow

RNG = np.random.default_rng(0)


def drawn(index: int, light: Light, elastic: float = 0.0) -> Drawn:
    augment = Augmentation((8, 8), scale=(1, 1), elastic=elastic)
    return Drawn(index, augment.draw((16, 16), RNG), light)


def light(**changes: object) -> Light:
    fields = {
        "shadow": None, "sigma": None, "exponent": 1.0, "factors": np.ones(3), "contrast": 1.0,
        "noise": None, "quality": None,
    }  # fmt: skip
    return Light(**{**fields, **changes})  # type: ignore[arg-type]


def test_each_change_names_the_crops_that_get_it() -> None:
    noise = np.ones((8, 8, 3), np.float32)
    packed = pack(
        [
            drawn(7, light(exponent=2.0, factors=np.array([3.0, 4.0, 5.0]), contrast=6.0)),
            drawn(8, light(shadow=Shadow(0.5, 1.0, 0.25, 0.125), sigma=1.2)),
            drawn(9, light(sigma=0.4, noise=noise, quality=40)),
        ],
        np.uint8,
    )
    assert packed.image.tolist() == [7, 8, 9]
    assert packed.matrix.shape == (3, 2, 3) and packed.matrix.dtype == torch.float64
    assert len(packed.bend) == 0
    assert packed.exposure[0].tolist() == [2, 6, 3, 4, 5]
    assert packed.shadow.which.tolist() == [1]
    assert packed.shadow.values.tolist() == [[0.5, 1.0, 0.25, 0.125]]
    assert packed.blur.which.tolist() == [1, 2]
    assert packed.blur.values.sum(1).tolist() == [1, 1]
    assert packed.noise.which.tolist() == [2] and torch.equal(
        packed.noise.values, torch.from_numpy(noise)[None]
    )
    assert packed.jpeg.which.tolist() == [2] and packed.jpeg.values.shape == (1, 2, 8, 8)
    assert all(
        torch.equal(*pair)
        for pair in zip(packed.to(torch.device("cpu")).blur, packed.blur, strict=True)
    )


def test_only_what_jpeg_takes_is_compressed() -> None:
    two = light(factors=np.ones(2), quality=40)
    assert len(pack([drawn(0, two)], np.uint8).jpeg.which) == 0
    assert len(pack([drawn(0, light(quality=40))], np.uint16).jpeg.which) == 0


def test_elastic_crops_have_vectors() -> None:
    packed = pack([drawn(0, light(), 4.0), drawn(0, light(), 4.0)], np.uint8)
    assert packed.bend.shape == (2, 2, 3, 3)


@pytest.mark.parametrize("sigma", [0.001, 0.3, 0.7, 1.2, 2.5])
@pytest.mark.parametrize("depth", [np.uint8, np.float32])
def test_kernel_is_that_of_opencv(sigma: float, depth: type) -> None:
    kernel = pack([drawn(0, light(sigma=sigma))], depth).blur.values[0].numpy()
    impulse = np.zeros((1, 41), depth)
    impulse[0, 20] = 1 if depth is np.float32 else 255
    wanted = cv2.GaussianBlur(impulse, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)[0]
    found = np.pad(kernel, (41 - len(kernel)) // 2) * impulse.max()
    if depth is np.uint8:
        assert np.array_equal(np.floor(found + 0.5), wanted)
    else:
        np.testing.assert_allclose(found, wanted, atol=1e-6)
