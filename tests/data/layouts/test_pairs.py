"""Images and masks are matched by patterns of paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.data.description import Declared
from edgeunet.data.layouts.pairs import list_pairs, patterns
from edgeunet.errors import DatasetError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(root: Path, image: str, mask: str, **more: bool) -> dict[str, dict[str, str]]:
    pairs = list_pairs(root, image, mask, **more)
    return {
        split: {
            each.image.relative_to(root).as_posix(): each.labels.path.relative_to(root).as_posix()
            for each in samples
        }
        for split, samples in pairs.samples.items()
    }


def test_stem_may_hold_folders_and_split_is_one(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "img/train/ulm/a_x.png",
        "lbl/train/ulm/a_y.png",
        "img/val/b_x.JPG",
        "lbl/val/b_y.png",
    )
    assert found(tmp_path, "img/{split}/{stem}_x", "lbl/{split}/{stem}_y.png") == {
        "train": {"img/train/ulm/a_x.png": "lbl/train/ulm/a_y.png"},
        "val": {"img/val/b_x.JPG": "lbl/val/b_y.png"},
    }


def test_masks_beside_images_are_no_images(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.jpg", "train/a_mask.png", "train/b_mask.jpg", "train/b_mask_mask.png")
    assert found(tmp_path, "{split}/{stem}", "{split}/{stem}_mask.png") == {
        "train": {
            "train/a.jpg": "train/a_mask.png",
            "train/b_mask.jpg": "train/b_mask_mask.png",
        }
    }


def test_masks_may_lie_outside_the_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.jpg", "val/b.jpg", "masks/a.png", "masks/b.png")
    assert found(tmp_path, "{split}/{stem}.jpg", "masks/{stem}") == {
        "train": {"train/a.jpg": "masks/a.png"},
        "val": {"val/b.jpg": "masks/b.png"},
    }


def test_missing_masks_are_named(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "i/train/a.jpg",
        "i/train/b.jpg",
        "i/train/c.jpg",
        "m/train/b.png",
        "m/train/x.png",
    )
    with pytest.raises(
        DatasetError,
        match=r"no mask for 2 images, i/train/a\.jpg the first. Looked for m/train/a.*\"mask\" in",
    ):
        list_pairs(tmp_path, "i/{split}/{stem}", "m/{split}/{stem}")
    pairs = list_pairs(tmp_path, "i/{split}/{stem}", "m/{split}/{stem}", partial=True)
    assert [path.name for path in pairs.without] == ["a.jpg", "c.jpg"]
    assert pairs.unused == (
        "2 images without a mask (a.jpg, ...)",
        "1 mask without an image (x.png)",
    )
    touch(tmp_path, "i/test/t.jpg", "m/train/a.png", "m/train/c.png")
    pairs = list_pairs(tmp_path, "i/{split}/{stem}", "m/{split}/{stem}")
    assert [path.name for path in pairs.without] == ["t.jpg"]


def test_folders_without_images_or_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no image that fits 'i/{stem}'"):
        list_pairs(tmp_path, "i/{stem}", "m/{stem}")
    touch(tmp_path, "i/a.jpg", "m/b.png")
    with pytest.raises(DatasetError, match=r"no image .* has a mask that fits 'm/{stem}'; a.jpg"):
        list_pairs(tmp_path, "i/{stem}", "m/{stem}", partial=True)
    touch(tmp_path, "m/a.png", "m/a.tif")
    with pytest.raises(DatasetError, match=r"m/a\.png and a\.tif both fit 'm/{stem}'"):
        list_pairs(tmp_path, "i/{stem}", "m/{stem}")


def test_accents_compare_as_they_look_and_dots_are_hidden(tmp_path: Path) -> None:
    touch(tmp_path, "i/caf\u00e9.jpg", "m/cafe\u0301.png", "i/._x.jpg", "i/notes.txt")
    assert len(list_pairs(tmp_path, "i/{stem}", "m/{stem}").samples[""]) == 1


def test_dataset_json_names_other_patterns() -> None:
    declared = Declared(Path("dataset.json"), {"mask": "{stem}_m", "image": "x/{stem}.png"})
    assert patterns(declared, "i/{stem}", "a/b/{stem}") == ("x/{stem}.png", "a/b/{stem}_m")
    assert patterns(Declared(Path("d"), {}), "i/{stem}", "m/{stem}") == ("i/{stem}", "m/{stem}")
