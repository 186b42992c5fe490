"""Roboflow's masks: the classes of each split, which must agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.data.datasets import open_dataset
from edgeunet.errors import DatasetError
from support.layouts import make_roboflow


def test_splits_must_have_the_same_classes(tmp_path: Path) -> None:
    make_roboflow(tmp_path)
    assert open_dataset(tmp_path).classes == ("background", "cell", "wall")
    (tmp_path / "valid" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, wall\n")
    with pytest.raises(DatasetError, match=r"differ; expected the same classes in each split"):
        open_dataset(tmp_path)
    (tmp_path / "train" / "_classes.csv").write_text("Pixel Value, Class\nx, background\n")
    with pytest.raises(DatasetError, match=r"has the row .*; expected VALUE,NAME"):
        open_dataset(tmp_path)


def test_missing_mask_is_named(tmp_path: Path) -> None:
    make_roboflow(tmp_path)
    next((tmp_path / "train").glob("*_mask.png")).unlink()
    with pytest.raises(DatasetError, match="no mask for 1 image, train/frame_"):
        open_dataset(tmp_path)
