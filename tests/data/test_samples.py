"""Which files belong together, which are left out, and what is said of the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.data.samples import MASK_NAMES, STEM, list_samples, list_split
from edgeunet.errors import DatasetError


def touch(folder: Path, *names: str) -> Path:
    """Empty files below a folder."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def pairs(folder: Path, **names: str) -> dict[str, str]:
    return {each.image.name: each.labels.path.name for each in list_split(folder, **names).samples}


def refusal(folder: Path, **names: str) -> str:
    with pytest.raises(DatasetError) as error:
        list_split(folder, **names)
    return str(error.value)


def test_samples_come_in_natural_order(tmp_path: Path) -> None:
    names = [f"frame_{index}" for index in range(12)]
    touch(tmp_path, *(f"images/{name}.jpg" for name in names))
    touch(tmp_path, *(f"masks/{name}.png" for name in names))
    assert [sample.image.stem for sample in list_samples(tmp_path)] == names
    assert list_split(tmp_path).skipped == ()


@pytest.mark.parametrize("name", MASK_NAMES)
@pytest.mark.parametrize("suffix", [".png", ".TIF", ".bmp"])
def test_masks_are_found_by_common_names(tmp_path: Path, name: str, suffix: str) -> None:
    masks = [f"{name.replace(STEM, stem)}{suffix}" for stem in ("a", "a.b")]
    touch(tmp_path, "images/a.jpg", "images/a.b.jpg", *(f"masks/{mask}" for mask in masks))
    assert pairs(tmp_path) == {"a.jpg": masks[0], "a.b.jpg": masks[1]}


@pytest.mark.parametrize(
    ("pattern", "mask"),
    [
        ("{stem}_lbl", "a_lbl.bmp"),
        ("gt {stem}", "gt a.png"),
        ("{stem}_lbl.png", "a_lbl.png"),
        ("{stem}", "a.tif"),
    ],
)
def test_dataset_json_names_a_pattern(tmp_path: Path, pattern: str, mask: str) -> None:
    touch(tmp_path, "images/a.jpg", f"masks/{mask}", "masks/a_preview.png")
    assert pairs(tmp_path, mask=pattern) == {"a.jpg": mask}


def test_pattern_settles_what_may_be_two_masks(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "masks/a.png", "masks/a_mask.png")
    assert pairs(tmp_path, mask="{stem}_mask") == {"a.jpg": "a_mask.png"}
    assert pairs(tmp_path, mask="{stem}") == {"a.jpg": "a.png"}
    skipped = list_split(tmp_path, mask="{stem}").skipped
    assert skipped == ("masks: 1 without an image (a_mask.png, ...)",)


def test_images_may_have_a_pattern_too(tmp_path: Path) -> None:
    touch(tmp_path, "images/7_sat.jpg", "masks/7_mask.png")
    assert pairs(tmp_path, image="{stem}_sat") == {"7_sat.jpg": "7_mask.png"}
    touch(tmp_path, "images/8.jpg")
    assert '8.jpg does not fit "image": "{stem}_sat"' in refusal(tmp_path, image="{stem}_sat")


@pytest.mark.parametrize("other", ["a.tif", "a_mask.png", "a_gt.png"])
def test_two_files_that_may_be_the_mask_are_refused(tmp_path: Path, other: str) -> None:
    touch(tmp_path, "images/a.jpg", "masks/a.png", f"masks/{other}")
    message = refusal(tmp_path)
    assert "a.png" in message
    assert other in message
    assert "may both be the mask of a. Remove one, or name the pattern" in message


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "images/a.png", "masks/a.png")
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path / 'images' / 'a.jpg'} and a.png have one name")


def test_mask_of_another_image_is_not_taken_by_a_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "images/a_mask.jpg", "masks/a.png", "masks/a_mask.png")
    assert pairs(tmp_path) == {"a.jpg": "a.png", "a_mask.jpg": "a_mask.png"}


def test_dot_files_and_others_are_skipped_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "images/._a.jpg", "images/notes.txt")
    touch(tmp_path, "masks/a.png", "masks/._a.png", "masks/b.png", "masks/Thumbs.db")
    split = list_split(tmp_path)
    assert [sample.image.name for sample in split.samples] == ["a.jpg"]
    assert split.skipped == (
        "images: 1 hidden (._a.jpg), 1 other (notes.txt)",
        "masks: 1 without an image (b.png, ...), 1 hidden (._a.png), 1 other (Thumbs.db)",
    )


def test_missing_folders_are_named(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path / 'images'} is not a directory."
    touch(tmp_path, "images/a.jpg")
    assert refusal(tmp_path) == f"{tmp_path / 'masks'} is not a directory."


def test_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path, "images/notes.txt", "images/.hidden.png")
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path / 'images'} holds no image")
    assert "Skipped there: 1 hidden (.hidden.png), 1 other (notes.txt)." in message


def test_missing_masks_are_counted_with_what_was_looked_for(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "images/b.jpg", "masks/a.png")
    message = refusal(tmp_path)
    assert "masks has no mask for 1 images, b.jpg the first. Looked for b, b_mask" in message
    assert "mask_b, label_b, as PNG or another image" in message
    touch(tmp_path, "masks/x.png", "masks/b.npy")
    message = refusal(tmp_path)
    assert "1 files there belong to no image, x.png the first." in message
    assert "Skipped there: 1 other (b.npy)." in message
    touch(tmp_path, "masks/b-lbl.png")
    message = refusal(tmp_path)
    assert message.endswith('If b-lbl.png is it, set "mask": "{stem}-lbl" in dataset.json.')
    assert pairs_after(tmp_path) == {"a.jpg": "a-lbl.png", "b.jpg": "b-lbl.png"}
    looked = refusal(tmp_path, mask="{stem}_x")
    assert "no mask for 2 images, a.jpg the first. Looked for a_x, as PNG" in looked


def pairs_after(folder: Path) -> dict[str, str]:
    """What the advice leads to."""
    (folder / "masks" / "a.png").rename(folder / "masks" / "a-lbl.png")
    return pairs(folder, mask="{stem}-lbl")


def test_instances_are_optional_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "images/b.jpg", "masks/a.png", "masks/b.png")
    touch(tmp_path, "instances/a.tif", "instances/c.png")
    split = list_split(tmp_path)
    assert [each.instances and each.instances.name for each in split.samples] == ["a.tif", None]
    assert split.skipped == (
        "instances: 1 without an image (c.png, ...)",
        "instances: none for 1 images",
    )


def test_names_that_are_not_utf_8_or_hold_controls_are_printed_with_escapes(tmp_path: Path) -> None:
    name = os.fsdecode(b"stra\xdfe\x1b[2J")
    touch(tmp_path, f"images/{name}.jpg", f"masks/{name}_mask.png")
    assert pairs(tmp_path) == {f"{name}.jpg": f"{name}_mask.png"}
    (tmp_path / "masks" / f"{name}_mask.png").unlink()
    message = refusal(tmp_path)
    assert "stra\\xdfe\\x1b[2J.jpg the first" in message
    message.encode()


def test_accents_compare_as_they_look(tmp_path: Path) -> None:
    touch(tmp_path, "images/caf\u00e9.jpg", "masks/cafe\u0301.png")
    assert len(list_samples(tmp_path)) == 1


@given(stems=st.sets(st.text("ab_1.", min_size=1, max_size=4).map(lambda s: f"x{s}x"), min_size=1))
def test_every_image_gets_its_own_mask(
    tmp_path_factory: pytest.TempPathFactory, stems: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("set")
    touch(folder, *(f"images/{stem}.jpg" for stem in stems))
    touch(folder, *(f"masks/{stem}.png" for stem in stems))
    assert pairs(folder) == {f"{stem}.jpg": f"{stem}.png" for stem in stems}
