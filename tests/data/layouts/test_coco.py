"""COCO: crowds, boxes, ids, paths, and what is wrong with a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeunet.data.check import check_dataset
from edgeunet.data.datasets import open_dataset, read_labels
from edgeunet.errors import DatasetError
from support.layouts import make_coco, make_coco_in_one, make_roboflow_coco, scene

Change = Callable[[dict[str, Any]], object]
TRAIN = "annotations/instances_train2017.json"


def changed(root: Path, change: Change) -> Path:
    """The data set with a change of its training annotations."""
    make_coco(root)
    path = root / TRAIN
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return root


def first(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["annotations"][0]
    return found


def test_crowds_and_bare_boxes_do_not_count(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        crowd, small = content["annotations"][2], first(content)
        crowd |= {"iscrowd": 1, "segmentation": [[0, 0, 64, 0, 64, 48, 0, 48]]}
        small["segmentation"] = []
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 8]

    opened = open_dataset(changed(tmp_path, change))
    labels = read_labels(opened.samples("train")[0], num_classes=3)
    shown = scene(0)
    wall, small = shown.things[1], shown.things[2]
    assert (labels[wall.inside] == 2).all()  # above the crowd
    assert (labels[small.inside] == 255).all()
    assert (labels[0, 0], (labels == 0).sum()) == (255, 0)
    told = " ".join(opened.notices)
    assert "1 object with a box only: what is in it does not count" in told
    assert "1 crowd (iscrowd): their pixels do not count" in told
    assert "1 image without an object: all background" in told


def test_heading_of_roboflow_is_no_class(tmp_path: Path) -> None:
    make_roboflow_coco(tmp_path)
    assert open_dataset(tmp_path).classes == ("background", "cell", "wall")


def test_one_file_is_divided_by_a_draw(tmp_path: Path) -> None:
    make_coco_in_one(tmp_path)
    opened = open_dataset(tmp_path)
    assert [len(opened.samples(split)) for split in ("train", "val")] == [4, 2]
    (tmp_path / "dataset.json").write_text(json.dumps({"layout": "coco", "val": 0.5, "seed": 3}))
    opened = open_dataset(tmp_path)
    assert [len(opened.samples(split)) for split in ("train", "val")] == [3, 3]


def test_image_in_both_files_is_refused_by_name(tmp_path: Path) -> None:
    make_coco(tmp_path)
    (tmp_path / "train2017" / "frame_4.jpg").write_bytes(
        (tmp_path / "val2017" / "frame_4.jpg").read_bytes()
    )
    content = json.loads((tmp_path / TRAIN).read_text())
    content["images"].append({"id": 99, "file_name": "frame_4.jpg", "height": 48, "width": 64})
    (tmp_path / TRAIN).write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"val2017/frame_4\.jpg is in val, and in train as .*tr"):
        check_dataset(open_dataset(tmp_path))
    content["images"][-1]["file_name"] = "../val2017/frame_4.jpg"
    (tmp_path / TRAIN).write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"in train and in val too, val2017/frame_4\.jpg"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("images"), "is no file of COCO: expected the lists images, annotations"),
        (lambda c: c.update(categories=[]), "has the category 20, which is unknown. Known: "),
        (lambda c: first(c).update(category_id=7), r"annotation 700 has the category 7, which is"),
        (lambda c: first(c).pop("category_id"), "has no 'category_id' that is a whole number"),
        (lambda c: first(c).update(image_id=99), "is of image 99, which is not among"),
        (
            lambda c: c["images"][0].update(file_name="x.jpg"),
            r"names the image x\.jpg, which is in",
        ),
        (lambda c: c["images"][0].update(file_name="../../x"), "expected a path inside"),
        (lambda c: c["images"][0].update(file_name="/etc/passwd"), "expected a path inside"),
        (lambda c: c["images"][0].update(file_name=3), "has no 'file_name' that is text"),
        (
            lambda c: first(c).update(segmentation=[[90, 0, 99, 0, 99, 9]]),
            "annotation 700 lies outside the image: x from 90 to 99",
        ),
        (lambda c: first(c).update(segmentation=[[1, 2, 3]]), "has no list of x and y"),
        (lambda c: first(c).update(segmentation="x"), "has no list of x and y"),
        (lambda c: first(c).update(segmentation={"counts": "~"}), "has run lengths that are none"),
        (lambda c: first(c).update(segmentation={"counts": [-1]}), "has run lengths that are none"),
        (lambda c: first(c).update(segmentation={}), "has neither|has run lengths"),
        (lambda c: first(c).update(segmentation=[], bbox=[1]), "has neither an outline nor a box"),
        (lambda c: [a.update(segmentation=[]) for a in c["annotations"]], None),
        (lambda c: c["annotations"].append(3), "3 has no"),
        (lambda c: c["categories"].append({"id": 0, "name": [], "supercategory": []}), "no 'name'"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(
    tmp_path: Path, change: Change, words: str | None
) -> None:
    changed(tmp_path, change)
    if words is None:  # boxes alone are no labels of pixels
        (tmp_path / "annotations" / "instances_val2017.json").unlink()
        words = "holds boxes without outlines"
    with pytest.raises(DatasetError, match=words):
        open_dataset(tmp_path)


def test_wrong_size_and_runs_are_among_the_problems(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["images"][0] |= {"height": 96, "width": 128}
        content["annotations"][4]["segmentation"] = {"counts": [5, 6], "size": [48, 64]}

    with pytest.raises(DatasetError) as error:
        check_dataset(open_dataset(changed(tmp_path, change)))
    assert "says that frame_0.jpg is 96x128; it is 48x64" in str(error.value)
    assert "run lengths of frame_1.jpg make 11 pixels; expected 48x64" in str(error.value)


def test_folder_without_annotations_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no annotations of COCO; expected annotations/inst"):
        open_dataset(tmp_path, "coco")
