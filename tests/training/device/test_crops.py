"""Crops of a batch on a device are those that are made one by one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from edgeunet.bundle.manifest import InputSpec
from edgeunet.bundle.steps import ImageStatistics, Window
from edgeunet.data.cells import write_dataset
from edgeunet.data.check import check_dataset
from edgeunet.data.datasets import open_dataset
from edgeunet.training.augment import Augmentation
from edgeunet.training.crops import Crops, focus_on
from edgeunet.training.device import load, pack
from edgeunet.training.photometry import PHOTOMETRY
from edgeunet.training.unlabelled import Unlabelled, UnlabelledCrops
from edgeunet.training.weight_map import WeightMaps

CPU = torch.device("cpu")
SPECS = {
    "stretched": InputSpec(64, 96),
    "padded": InputSpec(96, 96, resize="pad", filter="antialias"),
    "in windows": InputSpec(64, 64, window=Window()),
    "measured": InputSpec(64, 64, statistics=ImageStatistics(pixels="content")),
    "measured where not zero": InputSpec(64, 64, statistics=ImageStatistics(pixels="nonzero")),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two sizes."""
    path = tmp_path_factory.mktemp("device") / "data"
    write_dataset(path, train=6, val=2, height=96, width=120, seed=3)
    for kind in ("images", "masks", "instances"):
        file = sorted((path / "train" / kind).iterdir())[1]
        whole = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(file), whole[:80, :72])
    return path


def crops_of(folder: Path, spec: InputSpec, photometry: str = "mild", **augment: float) -> Crops:
    dataset = open_dataset(folder)
    return Crops(
        dataset.samples("train"),
        spec,
        num_classes=3,
        augment=Augmentation((48, 64), scale=(0.5, 1.6), **augment),  # type: ignore[arg-type]
        focus=focus_on(check_dataset(dataset).train.by_image, share=0.5),
        photometry=PHOTOMETRY[photometry],
    )


@pytest.mark.parametrize("name", SPECS)
def test_crops_are_those_of_the_cpu(folder: Path, tmp_path: Path, name: str) -> None:
    spec = SPECS[name]
    crops = crops_of(folder, spec, elastic=3.0, margin=4)
    crops.weight_maps = WeightMaps(tmp_path, border=10, balance=np.ones(3, np.float32))
    found_frames = Unlabelled.open(folder / "val" / "images", spec, tmp_path)
    frames = UnlabelledCrops(
        found_frames, spec, crops.augment, crops.photometry, size=3, steps=1, epoch_seed=5
    )
    crops.epoch_seed = 5
    held = load(crops, frames, CPU, room=10**8)
    assert held is not None
    drawn = [crops.draw(5, index, held.labels) for index in range(6)]
    others = [frames.draw(5, index, held.sizes[6:]) for index in range(3)]
    drawn += [replace(each, image=each.image + 6) for each in others]
    (images, ids, weights), more = held.make(pack(drawn, held.depth), 6)
    wanted = default_collate([crops[index] for index in range(6)])
    wanted_more = default_collate([frames[index] for index in range(3)])
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert more is not None and ids.dtype == torch.int64
    assert [each.shape for each in (images, ids, weights, more)] == [
        each.shape for each in (*wanted, wanted_more)
    ]
    level = 1 / (255 * min(spec.std)) if spec.statistics is None else 1 / 10
    for found, expected in ((images, wanted[0]), (more, wanted_more)):
        difference = (found - expected).abs() / level
        assert (difference > 1.01).float().mean() < 1e-3  # a border, where it went the other way
        assert difference.mean() < 1e-2
    assert (ids != wanted[1]).float().mean() < 1e-3
    assert ((weights - wanted[2]).abs() > 1e-2).float().mean() < 1e-3


def test_deep_images_have_crops_of_their_depth(folder: Path, tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    shutil.copytree(folder, deep)
    for file in deep.glob("*/images/*"):
        cv2.imwrite(str(file), cv2.imread(str(file)).astype(np.uint16) * 200 + 7)
    spec = InputSpec(64, 64, levels=(0.0, 65535.0), depth="uint16")
    crops = crops_of(deep, spec, "camera")
    held = load(crops, None, CPU, room=10**8)
    assert held is not None and held.images.pixels.dtype == torch.float32
    drawn = [crops.draw(0, index, held.labels) for index in range(2)]
    (images, _), more = held.make(pack(drawn, held.depth), 2)
    assert more is None
    wanted = default_collate([crops[index] for index in range(2)])[0]
    assert (images - wanted).abs().max() < 1e-3


def test_gray_net_has_crops_of_one_channel(folder: Path) -> None:
    crops = crops_of(folder, InputSpec(64, 64, channels=("gray",), mean=(0.5,), std=(0.2,)), "mild")
    held = load(crops, None, CPU, room=10**8)
    assert held is not None
    (images, _), _ = held.make(pack([crops.draw(0, 3, held.labels)], held.depth), 1)
    assert (images[0] - crops[3][0]).abs().max() < 1.1 / (255 * 0.2)


def test_images_that_need_more_room_are_not_loaded(folder: Path) -> None:
    crops = crops_of(folder, InputSpec(64, 64))
    needed = 6 * 64 * 64 * 3 + 5 * 96 * 120 + 80 * 72
    assert load(crops, None, CPU, room=needed) is not None
    assert load(crops, None, CPU, room=needed - 1) is None
