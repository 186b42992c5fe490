"""Everything wrong with a data set is named before training starts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest

from edgeunet.data.check import SHOWN, check_dataset
from edgeunet.data.datasets import open_dataset
from edgeunet.errors import DatasetError
from edgeunet.metrics import IGNORE
from support.commands import fails, succeeds


def write(path: Path, pixels: npt.NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three samples for training, one for validation, of two classes."""
    for split, names in {"train": "abc", "val": "d"}.items():
        for name in names:
            write(tmp_path / split / "images" / f"{name}.png", np.zeros((6, 8, 3), np.uint8))
            mask = np.zeros((6, 8), np.uint8)
            mask[0, :4] = name != "b"
            mask[1] = IGNORE
            write(tmp_path / split / "masks" / f"{name}.png", mask)
    (tmp_path / "dataset.json").write_text(json.dumps({"classes": ["sky", "road"]}))
    return tmp_path


def complaint(root: Path) -> str:
    with pytest.raises(DatasetError) as error:
        check_dataset(open_dataset(root))
    return str(error.value)


def test_counts_pixels_and_images_of_each_class(root: Path) -> None:
    contents = check_dataset(open_dataset(root))
    assert contents.train.images == 3
    assert contents.train.pixels.tolist() == [3 * 40 - 8, 8]
    assert contents.train.holding.tolist() == [3, 2]
    assert contents.val.pixels.tolist() == [36, 4]


def test_the_command_tells_and_ends(root: Path) -> None:
    arguments = ["train", "--check", "--model", "unet", "--data", root]
    result = succeeds(*arguments)
    assert "3 training images, 1 for validation" in result.output
    assert "road" in result.output
    assert not {path.name for path in root.iterdir()} - {"train", "val", "dataset.json"}
    told = json.loads(succeeds(*arguments, "--json").stdout)
    assert told["train"]["holding"] == [3, 2]
    said = fails(2, "train", "--model", "unet", "--data", root)
    assert "Pass -o DIR to train, --check to check" in said
    (root / "train" / "masks" / "a.png").unlink()
    assert "has no mask for 1 images, a.png the first" in fails(1, *arguments)


def test_class_without_a_pixel_is_refused_with_the_table(root: Path) -> None:
    info = {"classes": ["sky", "road", "sea", "x\x1b[2J"]}
    (root / "dataset.json").write_text(json.dumps(info))
    mask = np.zeros((6, 8), np.uint8)
    mask[0, :3] = (1, 2, 3)
    write(root / "train" / "masks" / "a.png", mask)
    message = complaint(root)
    assert "\n  'sea' has no pixel in val\n  'x\\x1b[2J' has no pixel in val\n" in message
    assert "has no pixel in train" not in message
    assert '"merge": {"NAME": ["sea", "..."]}' in message
    assert "3 training images, 1 for validation" in message
    write(root / "val" / "masks" / "d.png", mask)
    contents = check_dataset(open_dataset(root))
    assert contents.val.pixels.tolist() == [45, 1, 1, 1]
    assert "x\\x1b[2J" in contents.table()


def test_object_of_255_that_is_ignored_is_told_the_key(root: Path) -> None:
    info = {"classes": ["sky", "road"], "ignore": 255}
    (root / "dataset.json").write_text(json.dumps(info))
    for path in root.glob("*/masks/*.png"):
        write(path, np.where(np.eye(6, 8) > 0, 255, 0).astype(np.uint8))
    message = complaint(root)
    assert "'road' has no pixel in train" in message
    assert 'set "mask_values": [0, 255] in dataset.json and remove "ignore"' in message
    (root / "dataset.json").write_text(json.dumps({"classes": ["sky", "road"]}))
    contents = check_dataset(open_dataset(root))
    assert contents.train.pixels.tolist() == [3 * 42, 3 * 6]
    assert "255 'road'" in contents.notices[0]
    assert contents.to_json()["notices"] == list(contents.notices)


def test_what_is_left_out_and_what_is_turned_is_told(root: Path) -> None:
    for place in ("images", "masks"):
        (root / "train" / place / "._a.png").write_bytes(b"Mac OS X")
        (root / "val" / place / "notes.txt").write_bytes(b"")
    exif = PIL.Image.Exif()
    exif[274] = 6
    turned = root / "train" / "images" / "a.png"
    PIL.Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(turned, exif=exif)
    contents = check_dataset(open_dataset(root))
    assert (contents.train.turned, contents.val.turned) == (1, 0)
    table = contents.table()
    assert "train: EXIF turns 1 of 3 images; their masks have the size of the turned" in table
    assert "train: not used of images: 1 hidden (._a.png)" in table
    assert "val: not used of masks: 1 other (notes.txt)" in table
    told: Any = contents.to_json()["train"]
    assert (told["turned"], len(told["skipped"])) == (1, 2)
    write(root / "train" / "masks" / "a.png", np.zeros((8, 6), np.uint8))
    assert "a.png is 8x6, its image a.png 6x8. EXIF turns the image; expected 6x8" in complaint(
        root
    )


def test_images_of_several_pages_are_refused_with_the_count(root: Path) -> None:
    page = PIL.Image.fromarray(np.zeros((6, 8), np.uint8))
    page.save(root / "train" / "images" / "a.tif", save_all=True, append_images=[page, page])
    (root / "train" / "images" / "a.png").unlink()
    assert "a.tif holds 3 pages or frames; expected one image a file" in complaint(root)


def test_names_that_are_not_utf_8_are_checked(root: Path) -> None:
    for place in ("images", "masks"):
        old = root / "val" / place / "d.png"
        old.rename(root / "val" / place / os.fsdecode(b"stra\xdfe.png"))
    assert check_dataset(open_dataset(root)).val.images == 1
    write(root / "train" / "masks" / "a.png", np.zeros((6, 8), np.uint8))
    (root / "val" / "masks" / os.fsdecode(b"stra\xdfe.png")).write_bytes(b"no image")
    message = complaint(root)
    assert "stra\\xdfe.png cannot be read" in message
    message.encode()


def test_all_problems_are_listed_at_once(root: Path) -> None:
    write(root / "train" / "masks" / "a.png", np.full((6, 8), 7, np.uint8))
    write(root / "train" / "masks" / "b.png", np.zeros((8, 6), np.uint8))
    write(root / "train" / "masks" / "c.png", np.full((6, 8), IGNORE, np.uint8))
    (root / "val" / "images" / "d.png").write_bytes(b"no image")
    jpeg = cv2.imencode(".jpg", np.zeros((6, 8, 3), np.uint8))[1].tobytes()
    (root / "val" / "images" / "e.jpg").write_bytes(jpeg[:-2])
    write(root / "val" / "masks" / "e.png", np.zeros((6, 8), np.uint8))
    message = complaint(root)
    assert message.startswith(f"{root} cannot be trained on; 5 of 5 samples are wrong:")
    for words in (
        "a.png holds class id 7 at row 0, column 0; there are 2 classes",
        "b.png is 8x6, its image b.png 6x8",
        "c.png has no pixel that counts",
        "d.png cannot be read as an image",
        "e.jpg is truncated",
    ):
        assert words in message


def test_many_problems_are_counted(root: Path) -> None:
    for index in range(SHOWN + 3):
        write(root / "val" / "images" / f"{index}.png", np.zeros((6, 8, 3), np.uint8))
        write(root / "val" / "masks" / f"{index}.png", np.full((6, 8), 9, np.uint8))
    message = complaint(root)
    assert message.count("holds class id 9") == SHOWN
    assert message.endswith("and 3 more")


def test_empty_split_is_named(root: Path) -> None:
    (root / "val" / "images" / "d.png").unlink()
    assert f"{root / 'val' / 'images'} holds no image" in complaint(root)


def test_instances_are_checked_too(root: Path) -> None:
    write(root / "train" / "instances" / "a.png", np.zeros((3, 3), np.uint16))
    write(root / "train" / "instances" / "b.png", np.eye(3, dtype=np.uint8)[:, None])
    message = complaint(root)
    assert "a.png is 3x3, its image a.png 6x8" in message
    assert "b.png holds colours, such as" in message


def test_image_that_is_in_both_splits_is_named(root: Path) -> None:
    check_dataset(open_dataset(root))  # images of one colour may well be alike
    shown = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    for path in ("train/images/b.png", "val/images/d.png"):
        write(root / path, shown)
    message = complaint(root)
    assert "1 of 4 samples are wrong" in message
    assert f"val/images/d.png is in val, and in train as {root / 'train/images/b.png'}" in message


def test_copies_within_a_split_are_told(root: Path) -> None:
    assert check_dataset(open_dataset(root)).train.copies == (), "images of one colour may be alike"
    shown = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    first, other = (root / "train" / "images" / name for name in ("a.png", "c.png"))
    write(first, shown)
    write(other, shown)
    contents = check_dataset(open_dataset(root))
    assert contents.train.copies == ((first, other),) and contents.val.copies == ()
    assert "train: 1 image is a copy of others, such as c.png of a.png" in contents.table()
    told: Any = contents.to_json()["train"]
    assert told["copies"] == [[str(first), str(other)]]


def test_sizes_and_channels_are_counted(root: Path) -> None:
    for folder in ("images", "masks"):
        for name in ("a", "b"):
            image = np.zeros((4, 5, 3) if folder == "images" else (4, 5), np.uint8)
            write(root / "train" / folder / f"{name}.png", image + (folder == "masks"))
    contents = check_dataset(open_dataset(root))
    assert contents.sizes_text() == "4x5 (2 images), 6x8 (2 images)"
    assert contents.channels == "gray or RGB"
    assert contents.to_json()["sizes"] == {"4x5": 2, "6x8": 2}
