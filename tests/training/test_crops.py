"""Crops that are placed on rare classes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.manifest import Filter, InputSpec, Resize
from edgeunet.bundle.steps import ImageStatistics, Measured
from edgeunet.data.cells import write_dataset
from edgeunet.data.check import check_dataset
from edgeunet.data.datasets import open_dataset, read_labels
from edgeunet.errors import UsageError
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.training.augment import Augmentation
from edgeunet.training.config import TrainConfig
from edgeunet.training.crops import Crops, Focus, focus_on, random_point
from support.media import read_rgb

# Pixels by image and class: class 0 is the most common one, class 2 is in one image.
PIXELS = np.array([[90, 10, 0], [100, 0, 0], [80, 20, 0], [97, 0, 3]], np.int64)


def choices(focus: Focus, *, count: int = 4000) -> Counter[tuple[int, int | None]]:
    return Counter(focus.choose(1, np.random.default_rng(seed)) for seed in range(count))


def test_all_rare_classes_are_equally_likely() -> None:
    found = choices(focus_on(PIXELS, share=0.5))
    assert set(found) == {(1, None), (0, 1), (2, 1), (3, 2)}
    assert found[1, None] == pytest.approx(2000, abs=200)
    assert found[3, 2] == pytest.approx(1000, abs=150)
    assert found[0, 1] == pytest.approx(500, abs=110)


@pytest.mark.parametrize("focus", [focus_on(PIXELS, share=0), focus_on(PIXELS[1:2], share=1)])
def test_without_a_share_or_a_rare_class_every_image_is_cropped_in_turn(focus: Focus) -> None:
    assert set(choices(focus, count=50)) == {(1, None)}


@given(
    size=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    crop=st.tuples(st.integers(16, 64), st.integers(16, 64)),
    seed=st.integers(0, 2**32 - 1),
)
def test_crop_holds_the_class(size: tuple[int, int], crop: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, np.uint8)
    row, column = (int(rng.integers(side - 2)) for side in size)
    mask[row : row + 3, column : column + 3] = 1  # more than one pixel at the smallest zoom
    augment = Augmentation(crop, scale=(0.6, 1.4), rotation=4)
    warp = augment.warp(mask.shape, rng, point=random_point(mask, 1, rng))
    edge = min(row, column, size[0] - 3 - row, size[1] - 3 - column) < 4
    # At the very edge of the image the crop cannot move out, and the rotation may cut off a corner.
    assert edge or (warp.mask(mask) == 1).any()


def test_crops_of_rare_classes_hold_them(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=12, val=1, height=96, width=96, seed=3)
    dataset = open_dataset(tmp_path / "data")
    by_image = check_dataset(dataset).train.by_image

    def classes_held(share: float) -> list[set[int]]:
        crops = Crops(
            dataset.samples("train"),
            InputSpec(32, 32),
            num_classes=3,
            augment=Augmentation((32, 32), scale=(1.0, 1.5)),
            focus=focus_on(by_image, share=share),
        )
        assert np.array_equal(crops[2][0], crops[2][0])
        return [set(np.unique(crops[index][1].numpy())) & {1, 2} for index in range(12)]

    assert not all(classes_held(0)), "random crops hold all classes already: nothing is tested"
    assert all(classes_held(1))


def test_crops_beyond_the_border_look_as_at_inference(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=1, val=1, height=32, width=32, seed=0)
    (sample,) = open_dataset(tmp_path / "data").samples("train")
    assert read_rgb(sample.image).min() > 0
    for resize, zeros in (("pad", True), ("stretch", False)):
        crops = Crops(
            [sample],
            InputSpec(32, 32, resize=resize),  # type: ignore[arg-type]
            num_classes=3,
            augment=Augmentation((64, 64), scale=(1, 1), rotation=0),
            focus=Focus(0, ()),
        )
        image, classes = (tensor.numpy() for tensor in crops[0])
        outside = classes == 255
        assert outside.mean() == 0.75
        assert bool((image[:, outside] == 0).all()) is zeros


STILL = Augmentation((64, 48), scale=(1, 1), rotation=0)


@pytest.mark.parametrize("how", get_args(Filter))
@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize("size", [(96, 128), (64, 48), (40, 24)])
def test_crop_without_changes_is_what_run_makes(
    tmp_path: Path, how: Filter, resize: Resize, size: tuple[int, int]
) -> None:
    write_dataset(tmp_path / "data", train=1, val=1, height=size[0], width=size[1], seed=3)
    (sample,) = open_dataset(tmp_path / "data").samples("train")
    spec = InputSpec(64, 48, resize=resize, filter=how)
    rows, columns = spec.fitted_size(*size)
    still = replace(STILL, crop=(rows, columns))
    crops = Crops([sample], spec, num_classes=3, augment=still, focus=Focus(0, ()))
    image, classes = (tensor.numpy() for tensor in crops[0])
    frame, mask = read_rgb(sample.image), read_labels(sample, num_classes=3)
    wanted = Preprocessor(spec)([frame])[0, :, :rows, :columns]
    at = [(np.arange(n) * of + of // 2) // n for n, of in zip((rows, columns), size, strict=True)]
    nearest = mask[np.ix_(*at)]
    if np.abs(image - wanted).max() > np.abs(image[..., ::-1] - wanted).max():
        image, classes = image[..., ::-1], classes[..., ::-1]
    level = 1 / (255 * min(spec.std))
    assert np.abs(image - wanted).max() < 1.6 * level  # rounded to the depth, then to a level
    # Between two pixels either is the nearest.
    assert (classes != nearest).mean() < 0.05


@pytest.mark.parametrize("pixels", ["all", "content"])
def test_crop_is_normalised_by_what_the_whole_image_is(tmp_path: Path, pixels: Measured) -> None:
    write_dataset(tmp_path / "data", train=1, val=1, height=96, width=128, seed=3)
    (sample,) = open_dataset(tmp_path / "data").samples("train")
    spec = InputSpec(64, 48, statistics=ImageStatistics(pixels=pixels))
    crops = Crops([sample], spec, num_classes=3, augment=STILL, focus=Focus(0, ()))
    image = crops[0][0].numpy()
    frame = read_rgb(sample.image)
    wanted = Preprocessor(spec)([frame])[0]
    level = 1 / frame.std((0, 1)).min()
    assert min(np.abs(each - wanted).max() for each in (image, image[..., ::-1])) < 1.6 * level


def test_crop_of_a_large_image_holds_the_class_it_is_placed_on(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=6, val=4, height=128, width=192, seed=0)
    dataset = open_dataset(tmp_path / "data")
    crops = Crops(
        dataset.samples("train"),
        InputSpec(64, 96),
        num_classes=3,
        augment=Augmentation((24, 24), scale=(1.0, 1.2)),
        focus=focus_on(check_dataset(dataset).train.by_image, share=1),
    )
    assert all({1, 2} & set(np.unique(crops[index][1].numpy())) for index in range(6))


def test_refuses_a_share_above_one() -> None:
    with pytest.raises(UsageError, match=r"focus is 1\.5; expected at least 0 and at most 1"):
        TrainConfig(focus=1.5)
