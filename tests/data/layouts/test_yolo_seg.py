"""YOLO segmentation: `data.yaml`, its paths, and lines that are wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeunet.data.datasets import open_dataset, read_labels
from edgeunet.errors import DatasetError, MissingDependencyError
from support.layouts import make_yolo, scene

YAML = "train: {}\nval: images/val\nnames: [cell, wall]\n"


def test_boxes_and_missing_files_are_told(tmp_path: Path) -> None:
    make_yolo(tmp_path)
    path = tmp_path / "labels" / "train" / "frame_0.txt"
    path.write_text(f"{path.read_text()}1 0.5 0.5 0.1 0.1\n")
    (tmp_path / "labels" / "train" / "frame_1.txt").unlink()
    opened = open_dataset(tmp_path)
    labels = read_labels(opened.samples("train")[0], num_classes=3)
    assert (labels[23:25, 31:33] == 255).all()
    assert (labels[scene(0).things[1].inside] == 2).all()
    told = " ".join(opened.notices)
    assert "1 object with a box only: what is in it does not count" in told
    assert "1 image without an object: all background" in told


@pytest.mark.parametrize("place", ["images/train", "../images/train", "./images/train", "list.txt"])
def test_paths_are_found(tmp_path: Path, place: str) -> None:
    make_yolo(tmp_path)
    (tmp_path / "list.txt").write_text("".join(f"./images/train/frame_{n}.jpg\n" for n in range(4)))
    (tmp_path / "data.yaml").write_text(YAML.format(place))
    assert len(open_dataset(tmp_path).samples("train")) == 4


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("train: images/train\n", "has no names; expected data.yaml"),
        ("names: 3\n", "names is 3; expected one a class"),
        (YAML.format("/data/train"), "expected a path inside"),
        (YAML.format("../../x"), "expected a path inside"),
        (YAML.format("images/trian"), "names images/trian for train, which is not in"),
        ("names: [cell, wall]\n", "leads to no image: train is None"),
        ("- 1\n", "has no names"),
    ],
)
def test_wrong_descriptions_are_refused(tmp_path: Path, yaml: str, words: str) -> None:
    make_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(yaml)
    with pytest.raises(DatasetError, match=words):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "7 0 0 1 0 1 1",
            r"frame_0\.txt, line 1 has the category 7, which is unknown. Known: 0 ce",
        ),
        ("0 10 10 20 10 20 20", "line 1 lies outside the image.*expected shares of width"),
        ("0 0.1 0.2 0.3 0.4 0.5", "expected a class and x, y of corners"),
        ("cell 0 0 1 0 1 1", "expected a class and x, y of corners"),
        ("0 0 0 nan 0 1 1", "has no list of x and y"),
    ],
)
def test_wrong_lines_are_refused_by_number(tmp_path: Path, line: str, words: str) -> None:
    make_yolo(tmp_path)
    (tmp_path / "labels" / "train" / "frame_0.txt").write_text(line)
    with pytest.raises(DatasetError, match=words):
        open_dataset(tmp_path)


def test_labels_for_detection_are_refused(tmp_path: Path) -> None:
    make_yolo(tmp_path)
    for path in (tmp_path / "labels").rglob("*.txt"):
        path.write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DatasetError, match="holds boxes, labels for detection"):
        open_dataset(tmp_path)


def test_one_yaml_file_and_its_reader_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_yolo(tmp_path)
    (tmp_path / "data.yaml").rename(tmp_path / "cells.yaml")
    assert open_dataset(tmp_path).classes == ("background", "cell", "wall")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingDependencyError, match="yaml is not installed"):
        open_dataset(tmp_path)
    (tmp_path / "more.yaml").touch()
    with pytest.raises(DatasetError, match=r"has 2 YAML files; expected data\.yaml"):
        open_dataset(tmp_path)
