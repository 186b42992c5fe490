"""The page of a data set: samples that show every class, problems, and nothing unescaped."""

from __future__ import annotations

import html
import re
from pathlib import Path

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.data.check import survey
from edgeunet.data.datasets import open_dataset
from edgeunet.data.page import SHOWN, choose, write_page
from support.layouts import Made, make_mmseg, make_segnet, scenes


def page_of(root: Path) -> str:
    dataset = open_dataset(root)
    write_page(root / "page.html", dataset, survey(dataset))
    return (root / "page.html").read_text()


def test_page_shows_classes_splits_and_what_is_not_used(tmp_path: Path) -> None:
    make_segnet(tmp_path)
    page = page_of(tmp_path)
    assert page.count('<figure class="sample">') == 6
    assert page.count('src="data:image/') == 18
    assert "10 bicyclist" in page
    assert "48x64 (6 images)" in page
    assert "test: 1 labelled image in neither train nor val (006.png)" in page
    assert "recognised by train, trainannot" in page
    assert "All images and masks can be read" in page
    assert "://" not in re.sub(r"data:[^\"]+", "", page)


def test_problems_are_told_and_their_samples_left_out(tmp_path: Path) -> None:
    made = make_mmseg(tmp_path)
    (tmp_path / "classes.txt").write_text("background\ncell\n<script>alert(1)</script>\nsea\n")
    made.write("ann_dir/train/frame_0.png", np.full((48, 64), 9, np.uint8))
    (tmp_path / "img_dir" / "val" / "frame_5.jpg").write_bytes(b"x")
    page = page_of(tmp_path)
    assert page.count('<figure class="sample">') == 4
    assert "holds class id 9" in page
    assert "frame_5.jpg cannot be read as an image" in page
    assert "sea has no pixel in train" in page
    assert "<script" not in page
    assert html.escape("<script>alert(1)</script>") in page


def test_images_of_any_depth_and_size_are_shown(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for name, each in scenes():
        split = "val" if name in ("frame_4", "frame_5") else "train"
        deep = cv2.resize(each.image, (900, 500)).astype(np.uint16)[..., 0] * 11
        made.write(f"{split}/images/{name}.png", deep)
        mask = cv2.resize(each.mask, (900, 500), interpolation=cv2.INTER_NEAREST)
        made.write(f"{split}/masks/{name}.png", mask)
    made.json("dataset.json", {"classes": ["a", "b", "c"]})
    page = page_of(tmp_path)
    assert "gray or RGB, uint16" in page
    assert "500x900 (6 images)" in page
    assert len(page) < 600_000


@given(
    held=st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=1, max_size=20),
    most=st.integers(3, SHOWN),
)
def test_chosen_images_hold_every_class(held: list[list[int]], most: int) -> None:
    pixels = np.array(held, np.int64)
    chosen = choose(pixels, most)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(most, len(held))
    assert (pixels[chosen].any(axis=0) == pixels.any(axis=0)).all()
