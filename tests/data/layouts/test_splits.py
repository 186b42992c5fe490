"""Samples are divided as the folder or `dataset.json` says, or by a draw that is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.data.description import Declared
from edgeunet.data.layouts.base import Layout
from edgeunet.data.layouts.splits import divide
from edgeunet.data.samples import MaskFile, Sample
from edgeunet.errors import DatasetError

ROOT = Path("set")


def samples(names: str, folder: str = "images") -> list[Sample]:
    return [Sample(ROOT / folder / f"{n}.png", MaskFile(ROOT / f"m/{n}.png")) for n in names]


def divided(
    found: Mapping[str, list[Sample]], root: Path = ROOT, info: Any = None, **more: Any
) -> Layout:
    declared = Declared(root / "dataset.json", {"classes": ["a", "b"], **(info or {})})
    return divide("voc", declared.described(), found, **more)


def stems(layout: Layout, split: str) -> str:
    return "".join(sample.image.stem for sample in layout.split(split).samples)


def test_folders_of_splits_hold() -> None:
    found = {"training": samples("ba"), "valid": samples("c"), "test": samples("de")}
    layout = divided(found)
    assert (stems(layout, "train"), stems(layout, "val")) == ("ab", "c")
    assert layout.unused == ("test: 2 labelled images in neither train nor val (d.png, ...)",)
    assert layout.notices == ()


@given(count=st.integers(2, 40), share=st.floats(0.01, 0.99), seed=st.integers(0, 3))
def test_share_is_drawn_by_its_seed(count: int, share: float, seed: int) -> None:
    everything = [Sample(ROOT / f"{n}.png", MaskFile(ROOT / f"{n}.png")) for n in range(count)]
    info = {"val": share, "seed": seed}
    layout = divided({"": everything}, info=info)
    val = layout.split("val").samples
    assert len(val) == min(max(1, -int(-share * count // 1)), count - 1)
    assert {s.image for s in (*val, *layout.split("train").samples)} == {
        s.image for s in everything
    }
    again = divided({"": everything[::-1]}, info=info)
    assert again.split("val") == layout.split("val")


def test_draw_that_nobody_asked_for_is_told() -> None:
    layout = divided({"": samples("abcdefghij")})
    assert len(layout.split("val").samples) == 2
    assert (
        "names no images for validation: 20% of its training images, drawn with seed 0"
        in (layout.notices[0])
    )
    others = [
        stems(divided({"": samples("abcdefghij")}, info={"val": 0.2, "seed": n}), "val")
        for n in range(5)
    ]
    assert len(set(others)) > 1


def test_groups_are_drawn_together() -> None:
    layout = divided(
        {"": samples("abcdefgh")}, group=lambda sample: str(sample.image.stem in "abcd")
    )
    assert stems(layout, "val") in ("abcd", "efgh")
    with pytest.raises(DatasetError, match="are of one group; expected two or more"):
        divided({"": samples("ab")}, group=lambda sample: "one")


@pytest.mark.parametrize("form", ["{}", "{}.png", "images/{}.png", "images/{}", "/x/y/{}.png /m"])
def test_lists_name_samples_in_many_ways(tmp_path: Path, form: str) -> None:
    found = {"": [Sample(tmp_path / s.image.relative_to(ROOT), s.labels) for s in samples("abcd")]}
    (tmp_path / "val.txt").write_text("\n".join(form.format(n) for n in "ca"))
    layout = divided(found, tmp_path, {"val": "val.txt"})
    assert (stems(layout, "train"), stems(layout, "val")) == ("bd", "ac")
    (tmp_path / "train.txt").write_text("b\n")
    layout = divided(found, tmp_path, {"val": "val.txt", "train": "train.txt"})
    assert stems(layout, "train") == "b"
    assert layout.unused == ("the images: 1 labelled image in neither train nor val (d.png)",)


def test_overlapping_splits_are_refused_by_name(tmp_path: Path) -> None:
    found = {"": [Sample(tmp_path / s.image.relative_to(ROOT), s.labels) for s in samples("abc")]}
    (tmp_path / "train.txt").write_text("a\nb")
    (tmp_path / "val.txt").write_text("b\nc")
    with pytest.raises(
        DatasetError, match=r"1 image of .* in train and in val too, images/b\.png the first"
    ):
        divided(found, tmp_path, {"train": "train.txt", "val": "val.txt"})
    with pytest.raises(DatasetError, match=r"in train and in val too, images/c\.png"):
        divided({"train": samples("abc"), "val": samples("cd")})


def test_wrong_lists_and_shares_are_refused(tmp_path: Path) -> None:
    found = {"": [Sample(tmp_path / s.image.relative_to(ROOT), s.labels) for s in samples("abc")]}
    (tmp_path / "val.txt").write_text("a\nx")
    with pytest.raises(DatasetError, match=r"val\.txt lists x, which is no image with a mask"):
        divided(found, tmp_path, {"val": "val.txt"})
    twice = {"": [*found[""], Sample(tmp_path / "other" / "a.png", found[""][0].labels)]}
    with pytest.raises(DatasetError, match=r"lists a, which names several samples"):
        divided(twice, tmp_path, {"val": "val.txt"})
    with pytest.raises(DatasetError, match="expected a path inside"):
        divided(found, tmp_path, {"val": "../val.txt"})
    with pytest.raises(DatasetError, match=r'has its own val \(1 image\), and "val": 0\.3'):
        divided({"train": samples("ab"), "val": samples("c")}, info={"val": 0.3})
    with pytest.raises(DatasetError, match="no labelled image for training; it holds: 1 of test"):
        divided({"test": samples("a")})
