"""Our own layout with a share, with lists, and with folders of any names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeunet.data.datasets import open_dataset
from edgeunet.errors import DatasetError
from support.layouts import Made, scenes


def make(root: Path, images: str, masks: str, **info: object) -> Path:
    made = Made(root)
    for name, each in scenes():
        made.image(f"{images}/{name}.png", each)
        made.write(f"{masks}/{name}.png", each.mask)
    (root / "dataset.json").write_text(
        json.dumps({"classes": ["background", "cell", "wall"], **info})
    )
    return root


def counts(root: Path) -> tuple[int, int]:
    opened = open_dataset(root)
    return len(opened.samples("train")), len(opened.samples("val"))


def test_share_divides_one_folder(tmp_path: Path) -> None:
    assert counts(make(tmp_path, "images", "masks", val=0.5, seed=1)) == (3, 3)
    make(tmp_path, "images", "masks")
    with pytest.raises(DatasetError, match="train/images is not a directory"):
        counts(tmp_path)


def test_share_divides_the_folder_for_training(tmp_path: Path) -> None:
    make(tmp_path, "train/images", "train/masks", val=0.2)
    assert counts(tmp_path) == (4, 2)
    make(tmp_path, "val/images", "val/masks", val=0.2)
    with pytest.raises(DatasetError, match="has its own val"):
        open_dataset(tmp_path)


def test_lists_divide(tmp_path: Path) -> None:
    make(tmp_path, "images", "masks", val="val.txt")
    (tmp_path / "val.txt").write_text("frame_0\nframe_5\n")
    opened = open_dataset(tmp_path)
    assert [each.image.stem for each in opened.samples("val")] == ["frame_0", "frame_5"]
    assert len(opened.samples("train")) == 4


def test_patterns_lead_to_any_folders(tmp_path: Path) -> None:
    pattern = {"image": "raw/{split}/{stem}.png", "mask": "gt/{split}/{stem}.png"}
    for split in ("train", "val"):
        make(tmp_path, f"raw/{split}", f"gt/{split}", **pattern)
        for extra in (tmp_path / f"raw/{split}").glob(f"*{1 if split == 'train' else 0}.png"):
            extra.unlink()
    assert counts(tmp_path) == (5, 5)


def test_damaged_share_names_what_is_missing(tmp_path: Path) -> None:
    make(tmp_path, "images", "masks", val=0.2)
    (tmp_path / "masks" / "frame_3.png").unlink()
    with pytest.raises(DatasetError, match=r"no mask for 1 images, frame_3\.png the first"):
        open_dataset(tmp_path)
    (tmp_path / "images").rename(tmp_path / "pictures")
    with pytest.raises(DatasetError, match="images is not a directory"):
        open_dataset(tmp_path)
