"""LabelMe: kinds of shapes, names, and files that are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeunet.data.datasets import open_dataset, read_labels
from edgeunet.data.layouts import recognise
from edgeunet.errors import DatasetError
from support.layouts import Made, labelme_file, make_labelme, scene


def changed(root: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    make_labelme(root)
    content = json.loads((root / "frame_0.json").read_text())
    change(content)
    (root / "frame_0.json").write_text(json.dumps(content))
    return root


def test_what_covers_nothing_and_what_is_not_labelled_is_counted(tmp_path: Path) -> None:
    make_labelme(tmp_path)
    (tmp_path / "other.json").write_text("{}")
    opened = open_dataset(tmp_path, "labelme")
    assert "6 lines and points cover nothing" in opened.notices
    assert opened.layout.unused == (
        "1 other JSON file (other.json)",
        "1 image without a file of shapes (unlabelled.jpg)",
    )


def test_circle_is_round(tmp_path: Path) -> None:
    circle = {"label": "cell", "shape_type": "circle", "points": [[30, 20], [30, 30]]}
    changed(tmp_path, lambda content: content.update(shapes=[circle]))
    opened = open_dataset(tmp_path)
    samples = [*opened.samples("train"), *opened.samples("val")]
    (sample,) = (each for each in samples if each.image.stem == "frame_0")
    labels = read_labels(sample, num_classes=3)
    assert (labels == 1).sum() == pytest.approx(np.pi * 100, rel=0.05)


def test_folders_divide_and_names_lead_inside(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for number, folder in enumerate(("train", "train", "val")):
        made.image(f"{folder}/img/{number}.png", scene(number))
        made.json(
            f"{folder}/ann/{number}.json", labelme_file(f"..\\img\\{number}.png", scene(number))
        )
    made.text("labels.txt", ["__ignore__", "_background_", "wall", "cell"])
    opened = open_dataset(tmp_path, "labelme")
    assert opened.classes == ("_background_", "wall", "cell")
    assert [len(opened.samples(split)) for split in ("train", "val")] == [2, 1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["shapes"][0].pop("label"), "has a shape without a label"),
        (lambda c: c["shapes"][0].update(shape_type="cube"), "is of the kind 'cube'; expected pol"),
        (lambda c: c["shapes"][0].update(shape_type=["x"]), "is of the kind"),
        (lambda c: c["shapes"][0].update(points=[[0, 0]]), "rectangle, has no two points"),
        (lambda c: c["shapes"][0].update(points=[[0, 0], [1, "x"]]), "has no two points"),
        (lambda c: c["shapes"][1].update(points=[[1, 2], [3]]), "has no list of x and y"),
        (lambda c: c["shapes"][2].update(mask="bm8="), "shape 3 has no mask: "),
        (lambda c: c["shapes"][2].update(mask="?"), "shape 3 has no mask: "),
        (lambda c: c["shapes"][2].update(mask=3), "shape 3 has no mask: "),
        (lambda c: c.update(imagePath="../../x.jpg"), "expected a path inside"),
    ],
)
def test_wrong_shapes_are_refused_by_number(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    with pytest.raises(DatasetError, match=words):
        open_dataset(changed(tmp_path, change))


def test_unknown_label_is_refused(tmp_path: Path) -> None:
    make_labelme(tmp_path)
    (tmp_path / "labels.txt").write_text("wall\n")
    with pytest.raises(DatasetError, match=r"frame_0\.json: shape 1 has the category 'cell', wh"):
        open_dataset(tmp_path)


def test_missing_image_is_named(tmp_path: Path) -> None:
    changed(tmp_path, lambda content: content.update(imagePath="gone.jpg"))
    assert open_dataset(tmp_path).layout.family == "labelme"  # the one of its name is beside it
    (tmp_path / "frame_0.jpg").unlink()
    with pytest.raises(
        DatasetError, match=r"is of the image gone\.jpg, which is not there, and no"
    ):
        open_dataset(tmp_path)


def test_other_json_is_not_taken_for_labelme(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"frames": 3}')
    assert recognise(tmp_path) == []
    (tmp_path / "a.json").write_text("{")
    assert recognise(tmp_path) == []
    with pytest.raises(DatasetError, match=r"a\.json cannot be read as JSON"):
        open_dataset(tmp_path, "labelme")
    (tmp_path / "a.json").unlink()
    with pytest.raises(DatasetError, match="has no file of LabelMe; expected NAME"):
        open_dataset(tmp_path, "labelme")
