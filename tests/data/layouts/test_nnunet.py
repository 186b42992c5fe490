"""nnU-Net: both versions of its file, its first fold, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeunet.data.datasets import open_dataset
from edgeunet.errors import DatasetError
from support.layouts import make_nnunet

LABELS = {"background": 0, "cell": 1, "wall": 2, "ignore": 3}


def changed(root: Path, **info: Any) -> Path:
    make_nnunet(root)
    content = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**content, **info}))
    return root


def test_first_fold_validates_and_ignore_is_no_class(tmp_path: Path) -> None:
    make_nnunet(tmp_path)
    opened = open_dataset(tmp_path)
    assert opened.classes == ("background", "cell", "wall")
    assert [each.image.stem for each in opened.samples("val")] == ["frame_0_0000", "frame_1_0000"]
    assert opened.layout.unused == ("imagesTs: nnU-Net's test images",)


def test_version_1_has_labels_by_value(tmp_path: Path) -> None:
    by_value = {str(value): name for name, value in LABELS.items()}
    opened = open_dataset(changed(tmp_path, labels=by_value, name="cells"))
    assert opened.classes == ("background", "cell", "wall")
    assert opened.name == "cells"


def test_share_may_stand_in_its_file(tmp_path: Path) -> None:
    opened = open_dataset(changed(tmp_path, val=0.5, seed=1))
    assert len(opened.samples("val")) == 3


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"channel_names": 3, "labels": {"a": None}}, "the label 'a' is None"),
        ({"channel_names": {"0": "R", "1": "G"}}, "has 2 channels in files of their own"),
        ({"file_ending": ".nii.gz"}, r"has files \.nii\.gz, which may be volumes"),
        ({"labels": {**LABELS, "all": [1, 2]}}, r"'all' is a region of the values \[1, 2\]"),
        ({"labels": {**LABELS, "x": "y"}}, "the label 'x' is 'y'"),
        ({"labels": {"background": 0, "cell": 0}}, "all different"),
    ],
)
def test_what_it_cannot_be_is_refused_by_name(
    tmp_path: Path, info: dict[str, Any], words: str
) -> None:
    with pytest.raises(DatasetError, match=words):
        open_dataset(changed(tmp_path, **info))


def test_wrong_fold_and_missing_label_are_named(tmp_path: Path) -> None:
    make_nnunet(tmp_path)
    (tmp_path / "splits_final.json").write_text("[3]")
    with pytest.raises(DatasetError, match=r"splits_final\.json has no list 'train' in its first"):
        open_dataset(tmp_path)
    (tmp_path / "labelsTr" / "frame_2.png").unlink()
    with pytest.raises(DatasetError, match=r"imagesTr/frame_2_0000\.png the first"):
        open_dataset(tmp_path)
    with pytest.raises(DatasetError, match="does not exist"):
        open_dataset(tmp_path / "imagesTr", "nnunet")
