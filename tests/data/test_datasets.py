"""Data sets on disk and the augmentation of their samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.data.datasets import (
    open_dataset,
    read_instances,
    read_labels,
    read_mask,
)
from edgeunet.data.palettes import default_palette
from edgeunet.errors import DatasetError, SourceError
from edgeunet.metrics import IGNORE

INFO = {"name": "roads", "classes": ["sky", "road"], "palette": [[0, 0, 0], [10, 20, 255]]}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two training samples and one for validation."""
    root = tmp_path / "roads"
    rng = np.random.default_rng(0)
    for split, names in {"train": ("b.png", "a.jpg"), "val": ("c.bmp",)}.items():
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for name in names:
            image = root / split / "images" / name
            write(image, rng.integers(0, 256, (6, 8, 3), np.uint8))
            write(root / split / "masks" / f"{image.stem}.png", np.ones((6, 8), np.uint8))
    write_info(root, INFO)
    return root


def write(path: Path, pixels: npt.NDArray[Any]) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


def write_info(root: Path, info: object) -> None:
    (root / "dataset.json").write_text(json.dumps(info))


def refusal(root: Path) -> str:
    with pytest.raises(DatasetError) as error:
        open_dataset(root)
    return str(error.value)


# dataset.json


def test_opens_and_says_what_it_holds(dataset: Path) -> None:
    opened = open_dataset(str(dataset))
    assert opened.root == dataset
    assert opened.name == "roads"
    assert opened.classes == ("sky", "road")
    assert opened.palette == ((0, 0, 0), (10, 20, 255))


def test_digest_is_that_of_the_files_and_not_of_their_place(dataset: Path) -> None:
    first = open_dataset(dataset).digest
    moved = dataset.rename(dataset.with_name("elsewhere"))
    assert open_dataset(moved).digest == first
    mask = moved / "val" / "masks" / "c.png"
    mask.write_bytes(mask.read_bytes() + b" ")
    other = open_dataset(moved).digest
    assert other != first
    (moved / "train" / "images" / "a.jpg").rename(moved / "train" / "images" / "d.jpg")
    (moved / "train" / "masks" / "a.png").rename(moved / "train" / "masks" / "d.png")
    assert open_dataset(moved).digest not in (first, other)


def test_classes_that_cannot_be_those_of_a_net_are_refused(dataset: Path) -> None:
    opened = open_dataset(dataset)
    opened.check_classes(["sky", "road"], "the net has")
    opened.check_classes(["class 0", "class 1"], "the net has")
    with pytest.raises(DatasetError, match="2 classes, the net has 1"):
        opened.check_classes(["sky"], "the net has")
    with pytest.raises(DatasetError, match=r"another order, sky, road; the net has road, sky\."):
        opened.check_classes(["road", "sky"], "the net has")


def test_name_and_palette_have_defaults(dataset: Path) -> None:
    write_info(dataset, {"classes": ["a", "b", "c"]})
    opened = open_dataset(dataset)
    assert opened.name == "roads"  # the folder's
    assert opened.palette == default_palette(3)


def test_missing_dataset_json_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path / 'dataset.json'} does not exist" in refusal(tmp_path)


@pytest.mark.parametrize("count", [2, 255])
def test_as_many_classes_as_ids_are_possible(dataset: Path, count: int) -> None:
    write_info(dataset, {"classes": [str(index) for index in range(count)]})
    assert len(open_dataset(dataset).palette) == count


# Views


def view_of(dataset: Path, **info: object) -> Path:
    root = dataset.parent / "view"
    root.mkdir()
    write_info(root, {"source": "../roads", **info})
    return root


KINDS = ["sky", "crack", "road", "fray"]
CRACKS = {"defect": ["crack", "fray"]}


def test_a_view_makes_several_classes_one(dataset: Path) -> None:
    write_info(dataset, {"name": "roads", "classes": KINDS})
    stored = np.array([[0, 1, 2], [3, 255, 1]], np.uint8)
    write(dataset / "val" / "masks" / "c.png", stored)
    view = open_dataset(view_of(dataset, merge=CRACKS))
    assert view.classes == ("sky", "defect", "road")
    assert view.name == "roads"
    assert view.palette == default_palette(3)
    (sample,) = view.samples("val")
    assert sample.image.parent.samefile(dataset / "val" / "images")
    assert read_labels(sample, num_classes=3).tolist() == [[0, 1, 2], [1, 255, 1]]
    (plain,) = open_dataset(dataset).samples("val")
    assert np.array_equal(read_labels(plain, num_classes=4), stored)
    write(dataset / "val" / "masks" / "c.png", np.full((2, 3), 4, np.uint8))
    with pytest.raises(DatasetError, match="holds class id 4 at row 0, column 0; there are 4 c"):
        read_labels(sample, num_classes=3)


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"merge": {"defect": "crack"}}, "is not a view of a data set"),
        ({"merge": {"defect": ["hole"]}}, "\"merge\" names 'hole'"),
        ({"merge": {"all": KINDS}}, "leaves one class, 'all'"),
        ({"merge": CRACKS, "palette": [[0, 0, 0]]}, '"palette" must list'),
        ({"merge": CRACKS, "source": "../nowhere"}, "dataset.json does not exist"),
        ({"merge": CRACKS, "source": "a\0b"}, "cannot be read as JSON: embedded null byte"),
        ({"merge": CRACKS, "source": "."}, "which is a view too. Name its source"),
    ],
)
def test_wrong_views_are_refused(dataset: Path, info: dict[str, object], words: str) -> None:
    write_info(dataset, {"name": "roads", "classes": KINDS})
    assert words in refusal(view_of(dataset, **info))


# Masks


def test_class_that_is_ignored_is_no_class(dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    info = {"classes": KINDS, "palette": [[n, n, n] for n in range(4)], "ignore": [1, 9]}
    write_info(dataset, info)
    write(dataset / "val" / "masks" / "c.png", np.array([[0, 1, 2], [3, 9, 1]], np.uint8))
    opened = open_dataset(dataset)
    assert opened.classes == ("sky", "road", "fray")
    assert opened.palette == ((0, 0, 0), (2, 2, 2), (3, 3, 3))
    (sample,) = opened.samples("val")
    assert read_labels(sample, num_classes=3).tolist() == [[0, 255, 1], [2, 255, 255]]
    told = '"ignore" takes crack out. The ids of the net: 0 sky, 1 road, 2 fray.'
    assert opened.notices == (told,)
    assert [record.getMessage() for record in caplog.records] == [
        f"{dataset / 'dataset.json'}: {told}"
    ]
    write(dataset / "val" / "masks" / "c.png", np.array([[255]], np.uint8))
    with pytest.raises(DatasetError, match=r"class id 255 at row 0, .* \(0\.\.3, 1 = ignore, 9 ="):
        read_labels(sample, num_classes=3)
    view = open_dataset(view_of(dataset, merge={"ground": ["road", "fray"]}))
    assert view.classes == ("sky", "ground")
    write(dataset / "val" / "masks" / "c.png", np.array([[0, 1, 2, 3, 9]], np.uint8))
    (sample,) = view.samples("val")
    assert read_labels(sample, num_classes=2).tolist() == [[0, 255, 1, 1, 255]]


def test_ignored_class_of_colours_is_no_class_either(dataset: Path) -> None:
    colours = np.array([[9, 9, 9], [255, 0, 0], [0, 255, 0]], np.uint8)
    info = {"classes": ["void", "sky", "road"], "palette": colours.tolist(), "ignore": 0}
    write_info(dataset, info)
    write(dataset / "val" / "masks" / "c.png", colours[[[0, 1, 2, 0]]][..., ::-1])
    opened = open_dataset(dataset)
    assert (opened.classes, opened.palette) == (("sky", "road"), ((255, 0, 0), (0, 255, 0)))
    (sample,) = opened.samples("val")
    assert read_labels(sample, num_classes=2).tolist() == [[255, 0, 1, 255]]


def test_coding_is_decided_for_both_splits_and_said_once(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_info(dataset, {"classes": ["sky", "road"]})
    for name in ("a", "b"):
        write(dataset / "train" / "masks" / f"{name}.png", np.zeros((6, 8), np.uint8))
    write(dataset / "val" / "masks" / "c.png", np.full((6, 8), 255, np.uint8))
    for _ in range(2):
        opened = open_dataset(dataset)
        labels = [
            read_labels(sample, num_classes=2).max()
            for split in ("train", "val")
            for sample in opened.samples(split)
        ]
        assert labels == [0, 0, 1]
    assert len(caplog.records) == 1
    assert "masks with 0 and 255: 0 is 'sky', 255 'road'" in caplog.text
    write(dataset / "train" / "masks" / "a.png", np.ones((6, 8), np.uint8))
    with pytest.raises(
        DatasetError, match=r'c\.png holds 255, and .*a\.png holds 1.*"ignore": 255'
    ):
        open_dataset(dataset).samples("val")


def test_patterns_of_dataset_json_are_used(dataset: Path) -> None:
    (dataset / "val" / "masks" / "c.png").rename(dataset / "val" / "masks" / "c-x.png")
    write_info(dataset, {**INFO, "mask": "{stem}-x"})
    (sample,) = open_dataset(dataset).samples("val")
    assert sample.labels.path.name == "c-x.png"
    with pytest.raises(DatasetError, match="no mask for 2 images"):
        open_dataset(dataset).samples("train")


def test_missing_images_folder_is_named(dataset: Path) -> None:
    with pytest.raises(DatasetError) as error:
        open_dataset(dataset).samples("test")
    assert str(error.value) == f"{dataset / 'test' / 'images'} is not a directory."


def test_labels_of_other_classes_are_refused(dataset: Path) -> None:
    sample = open_dataset(dataset).samples("val")[0]
    with pytest.raises(DatasetError, match="holds class id 1 of 1 classes"):
        read_labels(sample, num_classes=1)


def test_instances_are_ids_of_any_depth(tmp_path: Path) -> None:
    ids = np.array([[0, 1], [300, 65535]])
    for dtype in (np.uint16, np.float32):
        path = write(tmp_path / "a.tif", ids.astype(dtype))
        assert read_instances(path).tolist() == ids.tolist()
    write(tmp_path / "a.tif", -ids.astype(np.float32))
    with pytest.raises(DatasetError, match="holds -65535 to 0; expected ids of instances"):
        read_instances(tmp_path / "a.tif")


# Images and masks


def test_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no image")
    for name in ("x.png", "nowhere.png"):
        with pytest.raises(SourceError, match=rf"{name} cannot be read"):
            read_mask(tmp_path / name, num_classes=2)


def test_ids_of_a_palette_are_a_mask(tmp_path: Path) -> None:
    ids = np.array([[0, 2, 255], [1, 1, 0]], np.uint8)
    image = PIL.Image.fromarray(ids)
    image.putpalette([value for n in range(256) for value in (n, 255 - n, 7)])
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", num_classes=3), ids)


@given(
    rows=st.lists(st.lists(st.sampled_from([0, 1, 2, IGNORE]), min_size=3, max_size=3), min_size=1)
)
def test_mask_comes_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]]
) -> None:
    path = write(tmp_path_factory.mktemp("mask") / "m.png", np.array(rows, np.uint8))
    mask = read_mask(path, num_classes=3)
    assert mask.dtype == np.uint8
    assert mask.tolist() == rows


@pytest.mark.parametrize("class_id", [3, 254])
def test_class_id_that_is_no_class_is_refused(tmp_path: Path, class_id: int) -> None:
    path = write(tmp_path / "m.png", np.array([[0, class_id, IGNORE]], np.uint8))
    with pytest.raises(DatasetError) as error:
        read_mask(path, num_classes=3)
    assert str(error.value).startswith(
        f"{path} holds class id {class_id} at row 0, column 1; there are 3 classes (0..2, 255 = "
    )
