"""Light of a batch: what `Light.apply` gives, crop by crop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.training.augment import Geometry
from edgeunet.training.crops import Drawn
from edgeunet.training.device.drawings import pack
from edgeunet.training.device.light import relit
from edgeunet.training.photometry import PHOTOMETRY, Light, Photometry
from support.light import wavy

PLAIN = Photometry(often=0.6)
CHANGES = {
    "mild": PHOTOMETRY["mild"],
    "gamma": replace(PLAIN, gamma=0.5),
    "shadow": replace(PLAIN, shadow=0.4),
    "blur": replace(PLAIN, blur=1.2),
    "noise": replace(PLAIN, noise=0.04),
}


def both(
    crops: npt.NDArray[np.generic], lights: list[Light], levels: tuple[float, float]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Crops in some light, made together and one by one."""
    drawn = [Drawn(0, Geometry(np.zeros((2, 3))), light) for light in lights]
    together = relit(
        torch.from_numpy(crops.astype(np.float32)), pack(drawn, crops.dtype), levels, crops.dtype
    )
    apart = [light.apply(crop, levels) for crop, light in zip(crops, lights, strict=True)]
    return together.numpy(), np.stack(apart).astype(np.float32)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("depth", [np.uint8, np.uint16, np.int16, np.float32])
@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    channels=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_crops_are_those_of_the_cpu(
    change: str, depth: type, height: int, width: int, channels: int, seed: int
) -> None:
    white = 1.0 if depth is np.float32 else 3000.0 if depth is np.int16 else np.iinfo(depth).max
    rng = np.random.default_rng(seed)
    shape = (height, width, channels)
    bytes_ = np.stack([wavy(shape, seed + index) for index in range(4)])
    crops = (bytes_ * (white / 255)).astype(depth)
    lights = [CHANGES[change].draw(shape, rng, (0.0, white)) for _ in range(4)]
    found, wanted = both(crops, lights, (0.0, white))
    if depth is np.uint8:
        assert np.abs(found - wanted).max() <= 1
        assert (found != wanted).mean() < 0.02
    else:
        np.testing.assert_allclose(found, wanted, atol=white * 2e-5)


def test_camera_gives_nearly_the_crops_of_the_cpu() -> None:
    rng = np.random.default_rng(0)
    crops = np.stack([wavy((48, 64, 3), seed) for seed in range(24)])
    camera = replace(PHOTOMETRY["camera"], often=0.5)
    found, wanted = both(crops, [camera.draw((48, 64, 3), rng) for _ in crops], (0.0, 255.0))
    assert np.abs(wanted - crops).mean() > 10
    # Before JPEG a level is rounded the other way here and there, and a coefficient after it.
    assert (np.abs(found - wanted) > 1).mean() < 0.02
    assert np.abs(found - wanted).mean() < 0.06


def test_deep_crops_are_not_compressed_and_stay_in_their_depth() -> None:
    light = Light(None, None, 1.0, np.full(3, 9.0), 1.0, None, 30)
    found, wanted = both(np.full((1, 8, 8, 3), 30_000, np.uint16), [light], (0.0, 65535.0))
    assert (found == 65535).all() and (wanted == 65535).all()
