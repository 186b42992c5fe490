"""Carvana: views of a car stay together; milesial's folders, of two classes or named ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeunet.data.datasets import open_dataset
from edgeunet.errors import DatasetError
from support.layouts import make_carvana, make_milesial


def test_views_of_a_car_are_in_one_split(tmp_path: Path) -> None:
    make_carvana(tmp_path)
    opened = open_dataset(tmp_path)
    assert opened.classes == ("background", "car")
    cars = [{s.image.stem[:4] for s in opened.samples(split)} for split in ("train", "val")]
    assert not cars[0] & cars[1]
    assert opened.layout.unused == ("test: its images have no masks",)


def test_classes_of_milesials_form_are_two_or_named(tmp_path: Path) -> None:
    made = make_milesial(tmp_path)
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(DatasetError, match=r"the masks looked at hold 0, 1, 2\. Write a file"):
        open_dataset(tmp_path)
    for path in (tmp_path / "masks").iterdir():
        made.write(f"masks/{path.name}", np.full((48, 64), 255, np.uint8) * (path.stem != "x"))
        path.rename(path.with_stem(f"{path.stem}_mask"))
    made.write("masks/frame_0_mask.png", np.zeros((48, 64), np.uint8))
    opened = open_dataset(tmp_path)
    assert opened.classes == ("background", "object")
    assert opened.samples("train")[0].labels.path.stem.endswith("_mask")


def test_missing_mask_is_named(tmp_path: Path) -> None:
    make_carvana(tmp_path)
    (tmp_path / "train_masks" / "car2_01_mask.gif").unlink()
    with pytest.raises(DatasetError, match=r"no mask for 1 image, train/car2_01\.jpg the first"):
        open_dataset(tmp_path)
