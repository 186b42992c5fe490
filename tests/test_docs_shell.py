"""The commands of the documentation run as they stand, page by page, on small data.

`ELSEWHERE` says of the others where they run, or why they cannot run in a test.
"""

from __future__ import annotations

import io
import re
import shutil
import tarfile
import zipfile
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from edgeunet.data.cells import snapshots, write_dataset
from edgeunet.runtime.sinks import VideoWriter
from support.commands import ROOT, succeeds
from support.pages import DOCS, PAGES, blocks, commands

ELSEWHERE = {
    "demo": "tests/test_readme.py, as the commands of README",
    "export ": "takes minutes; tests/export and tests/models/foreign export each kind of net",
    "mobile_unet:camvid": "exports for minutes; tests/test_catalogue.py",
    "prune ": "takes minutes; tests/pruning",
    "tune ": "takes minutes; tests/tuning",
    "--folds": "takes minutes; tests/training/test_cross_validation.py",
    "--teacher": "tests/training/test_teacher.py",
    "-o runs/": "trains by its defaults, for hours; tests/training/test_train.py",
    "serve ": "does not end; tests/runtime/serve",
    "build ": "needs TensorRT; tests/cli/test_build.py has a stand-in",
    "--backend tensorrt": "needs TensorRT",
    "csi://": "needs a camera",
    "rtsp://": "needs a camera",
    "v4l2://": "needs a camera",
    "bundle 0": "needs a camera",
    "int8 0": "needs a camera",
    "bag:": "needs a recording; tests/runtime/sources/test_ros.py",
    "s3://": "needs a store; tests/runtime/pipeline/test_cluster.py",
    "--backend rknn": "needs Rockchip's NPU; tests/runtime/backends/test_rknn.py",
    "--provider qnn": "needs Hexagon; tests/runtime/backends/test_hexagon.py",
    "--provider cuda": "needs CUDA",
    "--processor gpu": "needs Intel's GPU",
    "pipe:": "writes frames on stdout; tests/runtime/sinks/test_pipe.py",
    "--to ": "tests/export/deploy",
    "--deployed": "tests/export/deploy",
    "--target qnn": "tests/cli/test_lint.py",
    "--target rknn": "tests/cli/test_lint.py",
    "--all": "times everything for minutes; tests/cli/test_matrix.py",
    "-o report/": "needs a bundle's own data; tests/cli/test_parity.py",
    "gate --model": "needs a trained gate; tests/cli/test_gate.py",
}

SHORTER = {"bench": ["--repeats", "1"]}
"""Options that commands get here, so that they take less time."""


def calls(page: Path) -> list[list[str]]:
    return [
        call
        for block in blocks(page)
        if block.language == "bash"
        for call in commands(block.text)
        if not marks(call)
    ]


def marks(call: list[str]) -> set[str]:
    """Which marks of `ELSEWHERE` a call has."""
    line = " ".join(call)
    return {mark for mark in ELSEWHERE if mark in line}


PAGES_HERE = [
    page
    for page in PAGES
    if page.is_relative_to(DOCS) and not page.is_relative_to(DOCS / "reference") and calls(page)
]


def test_what_runs_elsewhere_is_on_a_page() -> None:
    every = [call for page in PAGES for block in blocks(page) for call in commands(block.text)]
    assert set(ELSEWHERE) - set().union(*map(marks, every)) == set()


def test_where_they_run_exists() -> None:
    named = [path for why in ELSEWHERE.values() for path in re.findall(r"tests/[\w/.]+", why)]
    assert len(named) > 12
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_enough_runs_here() -> None:
    assert len(PAGES_HERE) >= 10
    assert sum(len(calls(page)) for page in PAGES_HERE) >= 25


def expanded(pattern: str) -> list[str]:
    """What a shell would make of it."""
    return sorted(map(str, Path().glob(pattern)))


def write_files() -> None:
    """Pictures, films and archives by the names that the pages use."""
    frames = [each.image for each in snapshots(3, height=64, width=96, seed=1)]
    for name in ("day/1.jpg", "day/2.jpg", "photos/1.png", "line/1.png", "slide.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(frames[0]).save(name)
    for name in ("film.mp4", "video.mp4", "a.mp4", "b.mp4"):
        with VideoWriter(Path(name), rate=Fraction(25)) as film:
            for frame in frames:
                film.write(frame)
    Path("tiles").mkdir()
    for name in ("tiles/1.tif", "slide.tif"):
        tifffile.imwrite(name, frames[0], photometric="rgb")
    tifffile.imwrite("stack.tif", np.stack(frames), photometric="rgb")
    tifffile.imwrite("other.tif", np.dstack([frames[0], frames[0][..., 0]]), photometric="rgb")
    tifffile.imwrite("scaled.tif", frames[0].astype(np.float32) / 255, photometric="rgb")
    with zipfile.ZipFile("frames.zip", "w") as archive, tarfile.open("frames.tar", "w") as tar:
        content = Path("day/1.jpg").read_bytes()
        archive.writestr("1.jpg", content)
        member = tarfile.TarInfo("1.jpg")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    write_dataset(Path("dataset"), train=4, val=2, height=64, width=64, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_HERE, ids=lambda page: page.stem)
def test_commands_run(
    page: Path, int8_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEUNET_MEASURE", "0")
    write_files()
    for name in (
        "BUNDLE",
        "mobile_unet-camvid-int8",
        "mobile_unet-mine-int8",
        "mine",
        "cells",
        "gated",
    ):
        shutil.copytree(int8_bundle, name)
    for call in calls(page):
        words = [expanded(word) if "*" in word else [word] for word in call]
        succeeds(*chain.from_iterable(words), *SHORTER.get(call[0], []))
