"""CVAT for images: shapes that turn, order, colours, and files that are wrong."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgeunet.data.datasets import open_dataset, read_labels
from edgeunet.errors import DatasetError
from support.layouts import colour_of, make_cvat


def changed(root: Path, old: str, new: str) -> Path:
    make_cvat(root)
    text = (root / "annotations.xml").read_text()
    assert old in text
    (root / "annotations.xml").write_text(text.replace(old, new, 1))
    return root


def test_colours_and_splits_are_those_of_the_project(tmp_path: Path) -> None:
    make_cvat(tmp_path)
    opened = open_dataset(tmp_path)
    assert opened.palette == tuple(map(colour_of, ("background", "cell", "wall")))
    assert "6 shapes cover nothing (points)" in opened.notices


def test_shapes_turn_about_their_centre(tmp_path: Path) -> None:
    shape = '<box label="wall" xtl="20" ytl="20" xbr="40" ybr="24" rotation="90" z_order="9"/>'
    ring = '<ellipse label="cell" cx="52" cy="10" rx="8" ry="4" z_order="9"/>'
    changed(tmp_path, "<points", f"{shape}{ring}<points")
    (sample, *_) = open_dataset(tmp_path).samples("train")
    labels = read_labels(sample, num_classes=3)
    assert (labels[12:32, 28:32] == 2).all()
    assert (labels[9:11, 45:59] == 1).all()
    assert (labels == 1).sum() >= np.pi * 32 * 0.9


def test_images_of_one_task_have_no_subset(tmp_path: Path) -> None:
    make_cvat(tmp_path)
    for image in (tmp_path / "images").glob("*/*"):
        image.rename(tmp_path / "images" / image.name)
    path = tmp_path / "annotations.xml"
    path.write_text(re.sub(r' subset="\w*"', "", path.read_text()))
    (tmp_path / "dataset.json").write_text('{"layout": "cvat", "val": 0.5}')
    assert open_dataset(tmp_path).samples("val")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<?xml", "<!DOCTYPE a><?xml", "cannot be read as XML|document type"),
        ('label="wall"', 'label="wal"', "has the category 'wal', which is unknown. Did you mean"),
        ("<polygon", "<cube", "cube 2 of frame_0.png is of an unknown kind; expected polygon, box"),
        ('xtl="', 'xtl="x', "box of frame_0.png has no number 'xtl', but 'x"),
        ('points="', 'points="x', "has no list of x and y"),
        ('rle="0, ', 'rle="1, ', "has run lengths that do not fill its box of"),
        ('width="64"', 'width="nan"', "has no number 'width'"),
        ('name="frame_0.png"', 'name="gone.png"', "names the image 'gone.png', which is neither"),
        ('name="frame_0.png"', 'name="../../x.png"', "expected a path inside"),
        (
            'points="',
            'points="300,0;320,0;320,9;',
            "polygon 2 of frame_0.png lies outside the image",
        ),
    ],
)
def test_what_is_wrong_with_the_file_is_told(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    with pytest.raises(DatasetError, match=words):
        open_dataset(changed(tmp_path, old, new))


def test_film_and_empty_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "annotations.xml").write_text("<annotations><track/></annotations>")
    with pytest.raises(DatasetError, match=r'is of a video\. Export it as "CVAT for images"'):
        open_dataset(tmp_path)
    (tmp_path / "annotations.xml").write_text("<annotations/>")
    with pytest.raises(DatasetError, match="has no image"):
        open_dataset(tmp_path)
