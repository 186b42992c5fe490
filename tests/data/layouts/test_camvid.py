"""CamVid: three forms, and void by its name, its value or its colour."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.data.datasets import open_dataset
from edgeunet.data.layouts.camvid import SEGNET
from edgeunet.errors import DatasetError
from support.layouts import make_fastai, make_kaggle_camvid, make_segnet


def test_segnets_classes_and_folder_for_testing(tmp_path: Path) -> None:
    make_segnet(tmp_path)
    opened = open_dataset(tmp_path)
    assert opened.classes == tuple(SEGNET)
    assert opened.layout.unused == ("test: 1 labelled image in neither train nor val (006.png)",)


def test_validation_of_fastai_is_listed(tmp_path: Path) -> None:
    make_fastai(tmp_path)
    opened = open_dataset(tmp_path)
    assert [each.image.stem for each in opened.samples("val")] == ["frame_1", "frame_4"]
    (tmp_path / "valid.txt").write_text("frame_9.png")
    with pytest.raises(DatasetError, match=r"valid\.txt lists frame_9\.png, which is no image"):
        open_dataset(tmp_path)


def test_wrong_colours_and_forms_are_refused(tmp_path: Path) -> None:
    make_kaggle_camvid(tmp_path)
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nsky,1,2\n")
    with pytest.raises(DatasetError, match=r"has the row \['sky', '1', '2'\]; expected NAME,R,G,B"):
        open_dataset(tmp_path)
    (tmp_path / "class_dict.csv").unlink()
    with pytest.raises(DatasetError, match="has no form of camvid; expected train and trainannot"):
        open_dataset(tmp_path, "camvid")
