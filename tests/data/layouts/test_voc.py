"""PASCAL VOC: its palette, its border, its lists; and CVAT's copy of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeunet.data.datasets import open_dataset, read_labels
from edgeunet.data.layouts.voc import CLASSES, colour
from edgeunet.errors import DatasetError
from support.layouts import make_cvat_masks, make_voc


def test_border_in_colours_does_not_count(tmp_path: Path) -> None:
    made = make_voc(tmp_path)
    table = np.array([colour(index) for index in range(256)], np.uint8)
    for name, truth in made.truth.items():
        made.write(f"SegmentationClass/{Path(name).stem}.png", table[truth][..., ::-1])
    opened = open_dataset(tmp_path)
    assert opened.classes == CLASSES
    for sample in opened.samples("val"):
        truth = made.truth[sample.image.relative_to(tmp_path).as_posix()]
        np.testing.assert_array_equal(read_labels(sample, num_classes=21), truth)


def test_lists_choose_and_name_what_is_missing(tmp_path: Path) -> None:
    make_voc(tmp_path)
    opened = open_dataset(tmp_path)
    assert [each.image.stem for each in opened.samples("val")] == ["2007_000004", "2007_000005"]
    assert opened.layout.unused == ("1 image without a mask (2007_000099.jpg)",)
    (tmp_path / "SegmentationClass" / "2007_000004.png").unlink()
    with pytest.raises(DatasetError, match=r"val\.txt lists 2007_000004, which is no image with"):
        open_dataset(tmp_path)


def test_other_classes_are_named_in_a_file(tmp_path: Path) -> None:
    make_voc(tmp_path)
    (tmp_path / "class_names.txt").write_text("\n".join(f"c{n}" for n in range(21)))
    assert open_dataset(tmp_path).classes[:2] == ("c0", "c1")


def test_wrong_labelmap_is_refused(tmp_path: Path) -> None:
    make_cvat_masks(tmp_path)
    with (tmp_path / "labelmap.txt").open("a") as file:
        file.write("dog:red::\n")
    with pytest.raises(DatasetError, match=r"labelmap\.txt has the line 'dog:red::'; expected NA"):
        open_dataset(tmp_path)
