"""Cityscapes: label ids become train ids, and train ids stay."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeunet.data.datasets import open_dataset, read_labels
from edgeunet.data.layouts.cityscapes import CLASSES
from edgeunet.errors import DatasetError
from support.layouts import make_cityscapes


def test_all_label_ids_are_known(tmp_path: Path) -> None:
    made = make_cityscapes(tmp_path)
    path = next((tmp_path / "gtFine" / "val").rglob("*_labelIds.png"))
    assert cv2.imwrite(str(path), np.arange(34, dtype=np.uint8)[None])
    (sample,) = (each for each in open_dataset(tmp_path).samples("val") if each.labels.path == path)
    found = read_labels(sample, num_classes=19)[0].tolist()
    expected = dict(zip((label for label, _ in CLASSES.values()), range(19), strict=True))
    assert found == [expected.get(label, 255) for label in range(34)]
    assert made.truth


def test_train_ids_are_read_as_they_are(tmp_path: Path) -> None:
    made = make_cityscapes(tmp_path)
    for path in list((tmp_path / "gtFine").rglob("*_labelIds.png")):
        path.unlink()
        name = path.name.replace("_gtFine_labelIds", "_leftImg8bit")
        image = f"leftImg8bit/{path.parent.relative_to(tmp_path / 'gtFine')}/{name}"
        trained = path.name.replace("labelIds", "labelTrainIds")
        made.write(path.with_name(trained).relative_to(tmp_path).as_posix(), made.truth[image])
    opened = open_dataset(tmp_path)
    for sample in opened.samples("train"):
        truth = made.truth[sample.image.relative_to(tmp_path).as_posix()]
        np.testing.assert_array_equal(read_labels(sample, num_classes=19), truth)


def test_images_for_testing_may_lack_labels_others_not(tmp_path: Path) -> None:
    make_cityscapes(tmp_path)
    assert open_dataset(tmp_path).layout.unused[0].startswith("1 image without a mask (rom_0_left")
    next((tmp_path / "gtFine" / "train").rglob("*_labelIds.png")).unlink()
    with pytest.raises(DatasetError, match="no mask for 1 image, leftImg8bit/train/"):
        open_dataset(tmp_path)
