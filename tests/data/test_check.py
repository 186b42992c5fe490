"""Everything wrong with a data set is named before training starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
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
    assert "Pass -o DIR to train, or --check" in said
    (root / "train" / "masks" / "a.png").unlink()
    assert "has no mask for 1 images, a.png the first" in fails(1, *arguments)


def test_all_problems_are_listed_at_once(root: Path) -> None:
    write(root / "train" / "masks" / "a.png", np.full((6, 8), 7, np.uint8))
    write(root / "train" / "masks" / "b.png", np.zeros((8, 6), np.uint8))
    write(root / "train" / "masks" / "c.png", np.full((6, 8), IGNORE, np.uint8))
    (root / "val" / "images" / "d.png").write_bytes(b"no image")
    jpeg = cv2.imencode(".jpg", np.zeros((6, 8, 3), np.uint8))[1].tobytes()
    (root / "val" / "images" / "e.jpg").write_bytes(jpeg[:-2])
    write(root / "val" / "masks" / "e.png", np.zeros((6, 8), np.uint8))
    message = complaint(root)
    assert message.startswith(f"{root} cannot be trained on:")
    for words in (
        "a.png holds class id 7; there are 2 classes",
        "b.png is 8x6, its image b.png 6x8",
        "c.png has no pixel that counts: all are 255",
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
    write(root / "train" / "instances" / "b.png", np.zeros((6, 8, 3), np.uint8))
    message = complaint(root)
    assert "a.png is 3x3, its image a.png 6x8" in message
    assert "b.png is not a single-channel image of instance ids" in message
