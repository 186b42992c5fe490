"""MMSegmentation: who names the classes, and values that begin with 1."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeunet.data.datasets import open_dataset
from edgeunet.errors import DatasetError
from support.layouts import make_ade, make_mmseg


def test_classes_are_asked_for_with_the_values(tmp_path: Path) -> None:
    make_mmseg(tmp_path)
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(DatasetError, match="the masks looked at hold 0, 1, 2"):
        open_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"classes": ["a", "b", "c"]}))
    opened = open_dataset(tmp_path)
    assert opened.classes == ("a", "b", "c")
    assert opened.layout.family == "mmseg"


def test_zero_of_ade20k_does_not_count(tmp_path: Path) -> None:
    make_ade(tmp_path)
    opened = open_dataset(tmp_path)
    assert opened.classes == ("background", "cell", "wall")
    assert "value 0 does not count, 1 is the first class, as in ADE20K" in opened.notices


def test_names_that_ade20k_has_twice_are_told_apart(tmp_path: Path) -> None:
    make_ade(tmp_path)
    path = tmp_path / "objectInfo150.txt"
    path.write_text(path.read_text().replace("wall, also", "cell, cell wall"))
    assert open_dataset(tmp_path).classes == ("background", "cell", "cell 2")
