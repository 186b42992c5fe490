"""`edgeunet data`: what it prints, and when it fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeunet.data.layouts import LAYOUTS
from support.commands import call, data, fails, succeeds
from support.layouts import make_cvat, make_mmseg


def test_prints_what_was_understood(tmp_path: Path) -> None:
    make_cvat(tmp_path)
    result = succeeds("data", tmp_path)
    for words in (
        "layout    cvat\n",
        "sizes     48x64 (6 images)\n",
        "values    gray or RGB, uint8, ",
        "recognised by annotations.xml",
        "4 training images, 2 for validation",
        "6 shapes cover nothing (points)",
    ):
        assert words in result.stdout
    told = data("data", tmp_path, "--layout", "cvat")
    assert told["layout"] == "cvat"
    assert told["sizes"] == {"48x64": 6}
    assert told["train"]["images"] == 4
    assert told["problems"] == []


def test_help_lists_the_layouts() -> None:
    text = succeeds("data", "--help").stdout
    assert [name for name in LAYOUTS if f"  {name} " not in text] == []


def test_problems_end_with_an_error(tmp_path: Path) -> None:
    made = make_mmseg(tmp_path)
    (tmp_path / "classes.txt").write_text("background\ncell\nwall\nsea\n")
    made.write("ann_dir/train/frame_0.png", np.full((48, 64), 9, np.uint8))
    result = call("data", tmp_path)
    assert result.exit_code == 1
    assert "wrong: " in result.stdout
    assert "holds class id 9" in result.stdout
    assert "wrong: 'sea' has no pixel in val\nAdd images that show it to that" in result.stdout


def test_page_is_written_once(tmp_path: Path) -> None:
    make_cvat(tmp_path / "data")
    page = tmp_path / "page.html"
    assert f"wrote {page}" in succeeds("data", tmp_path / "data", "-o", page).stdout
    assert page.read_text().startswith("<!doctype html>")
    assert "exists already. Pass --force" in fails(2, "data", tmp_path / "data", "-o", page)
    succeeds("data", tmp_path / "data", "-o", page, "--force")
    assert "expected the name of a page such as data.html" in fails(
        1, "data", tmp_path / "data", "-o", tmp_path / "page"
    )


def test_layout_without_a_data_set_is_refused(fp32_bundle: Path, tmp_path: Path) -> None:
    words = "got --layout voc without"
    assert words in fails(2, "parity", fp32_bundle, "--layout", "voc")
    assert words in fails(2, "export", "--model", "mobile_unet", "--layout", "voc", "-o", tmp_path)
    assert words in fails(
        2, "prune", "--model", "unetpp", "--depth", 2, "--layout", "voc", "-o", tmp_path / "x"
    )
    gate = ["gate", "--model", "mobile_unet", "--weights", "cells", "--data", tmp_path]
    assert "unknown layout 'vox'. Did you mean 'voc'?" in fails(
        2, *gate, "--layout", "vox", "-o", tmp_path / "x.safetensors"
    )
    train = ["train", "--model", "unet", "--data", tmp_path, "--layout", "vox", "--check"]
    assert "unknown layout 'vox'. Did you mean 'voc'?" in fails(2, *train)
