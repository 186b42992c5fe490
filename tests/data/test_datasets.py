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
    Sample,
    default_palette,
    list_samples,
    open_dataset,
    read_image,
    read_labels,
    read_mask,
)
from edgeunet.errors import DatasetError, SourceError
from edgeunet.metrics import IGNORE
from edgeunet.runtime.sources import Frames

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


def test_name_and_palette_have_defaults(dataset: Path) -> None:
    write_info(dataset, {"classes": ["a", "b", "c"]})
    opened = open_dataset(dataset)
    assert opened.name == "roads"  # the folder's
    assert opened.palette == default_palette(3)


def test_missing_dataset_json_says_what_a_data_set_is(tmp_path: Path) -> None:
    message = refusal(tmp_path / "nowhere")
    assert f"{tmp_path / 'nowhere' / 'dataset.json'} does not exist" in message
    assert "DIR/dataset.json with DIR/{train,val}/images and DIR/{train,val}/masks" in message


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"classes: 2"])
def test_bad_json_is_refused(dataset: Path, content: bytes) -> None:
    (dataset / "dataset.json").write_bytes(content)
    assert f"{dataset / 'dataset.json'} cannot be read as JSON: " in refusal(dataset)


@pytest.mark.parametrize("info", [[], 3, {}, {"classes": None}, {"classes": "sky"}])
def test_missing_classes_are_refused(dataset: Path, info: object) -> None:
    write_info(dataset, info)
    message = refusal(dataset)
    assert message == f'{dataset / "dataset.json"} has no list "classes" of class names.'


@pytest.mark.parametrize("count", [0, 1, 256])
def test_too_few_and_too_many_classes_are_refused(dataset: Path, count: int) -> None:
    write_info(dataset, {"classes": [str(index) for index in range(count)]})
    assert f"names {count} classes; 2 to 255 are possible" in refusal(dataset)


@pytest.mark.parametrize("count", [2, 255])
def test_as_many_classes_as_ids_are_possible(dataset: Path, count: int) -> None:
    write_info(dataset, {"classes": [str(index) for index in range(count)]})
    assert len(open_dataset(dataset).palette) == count


@pytest.mark.parametrize(
    ("palette", "words"),
    [
        ([[0, 0, 0]], "must list one [r, g, b] for each class"),
        ([[0, 0, 0]] * 3, "must list one [r, g, b] for each class"),
        ({"sky": [0, 0, 0], "road": [1, 1, 1]}, "must list one [r, g, b] for each class"),
        ([[0, 0, 0], [1, 2]], "holds [1, 2]; expected [r, g, b]"),
        ([[0, 0, 0], "red"], "holds 'red'; expected [r, g, b]"),
        ([[0, 0, 0], 7], "holds 7; expected [r, g, b]"),
        ([[0, 0, 0], ["r", "g", "b"]], "holds ['r', 'g', 'b']; expected [r, g, b]"),
        ([[0, 0, 0], [None, 0, 0]], "holds [None, 0, 0]; expected [r, g, b]"),
        ([[0, 0, 0], [0, 0, 256]], "holds [0, 0, 256]"),
        ([[0, 0, 0], [0, -1, 0]], "holds [0, -1, 0]"),
        ([[0, 0, 0], [0.5, 0.5, 0.5]], "holds [0.5, 0.5, 0.5]"),
    ],
)
def test_wrong_palette_is_refused(dataset: Path, palette: object, words: str) -> None:
    write_info(dataset, {**INFO, "palette": palette})
    message = refusal(dataset)
    assert f'{dataset / "dataset.json"}: "palette"' in message
    assert words in message


@pytest.mark.parametrize("count", [2, 3, 12, 32, 64, 255])
def test_default_palette_is_black_and_distinct_colours(count: int) -> None:
    palette = default_palette(count)
    assert palette[0] == (0, 0, 0)
    assert len(set(palette)) == len(palette) == count
    assert all(0 <= value <= 255 for colour in palette for value in colour)


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
    with pytest.raises(DatasetError, match="holds class id 4; there are 4 classes"):
        read_labels(sample, num_classes=3)


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({}, "is not a view of a data set"),
        ({"merge": ["crack"]}, "is not a view of a data set"),
        ({"merge": {"defect": "crack"}}, "is not a view of a data set"),
        ({"merge": CRACKS, "classes": ["a", "b"]}, "is not a view of a data set"),
        ({"merge": {"defect": ["hole"]}}, "\"merge\" names 'hole'"),
        ({"merge": {"all": KINDS}}, "leaves one class, 'all'"),
        ({"merge": CRACKS, "palette": [[0, 0, 0]]}, '"palette" must list'),
        ({"merge": CRACKS, "source": "../nowhere"}, "dataset.json does not exist"),
        ({"merge": CRACKS, "source": 3}, "is not a view of a data set"),
        ({"merge": CRACKS, "source": "."}, "which is a view too. Name its source"),
    ],
)
def test_wrong_views_are_refused(dataset: Path, info: dict[str, object], words: str) -> None:
    write_info(dataset, {"name": "roads", "classes": KINDS})
    assert words in refusal(view_of(dataset, **info))


def test_samples_are_pairs_sorted_by_name(dataset: Path) -> None:
    (dataset / "train" / "images" / "notes.txt").touch()
    train = dataset / "train"
    assert open_dataset(dataset).samples("train") == [
        Sample(train / "images" / "a.jpg", train / "masks" / "a.png"),
        Sample(train / "images" / "b.png", train / "masks" / "b.png"),
    ]
    assert [sample.image.name for sample in open_dataset(dataset).samples("val")] == ["c.bmp"]


def test_missing_images_folder_is_named(dataset: Path) -> None:
    with pytest.raises(DatasetError) as error:
        open_dataset(dataset).samples("test")
    assert str(error.value) == f"{dataset / 'test' / 'images'} is not a directory."


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "notes.txt").touch()
    with pytest.raises(DatasetError, match=r"images holds no image \(\.bmp, \.jpeg, \.jpg, \.png"):
        list_samples(tmp_path)


def test_missing_masks_are_counted_and_the_first_is_named(dataset: Path) -> None:
    (dataset / "train" / "masks" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"masks has no mask for 1 images, b\.png the first"):
        list_samples(dataset / "train")
    (dataset / "train" / "masks" / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"masks has no mask for 2 images, a\.jpg the first"):
        list_samples(dataset / "train")


# Images and masks


def test_image_is_rgb_or_gray(tmp_path: Path) -> None:
    blue = np.zeros((4, 5, 3), np.uint8)
    blue[..., 0] = 255  # OpenCV writes BGR
    path = write(tmp_path / "blue.png", blue)
    image = read_image(path)
    assert image.shape == (4, 5, 3)
    assert image.flags.c_contiguous
    assert (image == (0, 0, 255)).all()
    gray = read_image(path, channels=1)
    assert gray.shape == (4, 5, 1)
    assert (gray == 29).all()  # 0.114 of 255


def test_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no image")
    for name in ("x.png", "nowhere.png"):
        with pytest.raises(SourceError, match=rf"{name} cannot be read"):
            read_image(tmp_path / name)
        with pytest.raises(SourceError, match=rf"{name} cannot be read"):
            read_mask(tmp_path / name, num_classes=2)


def test_training_reads_16_bit_as_run_does(tmp_path: Path) -> None:
    deep = np.array([[0, 128, 129, 40000, 65535]], np.uint16)
    path = write(tmp_path / "a.png", deep)
    (frame,) = Frames.open(path).read()
    np.testing.assert_array_equal(read_image(path), frame.image)
    assert read_image(path, channels=1)[0, :, 0].tolist() == [0, 0, 1, 156, 255]


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
    assert str(error.value) == (
        f"{path} holds class id {class_id}; there are 3 classes (0..2, 255 = ignore)."
    )


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint16)], ids=["RGB", "16 bit"]
)
def test_mask_of_another_form_is_refused(tmp_path: Path, pixels: npt.NDArray[Any]) -> None:
    path = write(tmp_path / "m.png", pixels)
    with pytest.raises(DatasetError, match=r"m\.png is not an 8-bit single-channel image of class"):
        read_mask(path, num_classes=3)
