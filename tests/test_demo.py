"""The demo runs on procedural data and writes the files that it names."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeunet.demo import RATE, SIZE, _strangers_in, demo
from edgeunet.errors import OutputExistsError, UsageError
from edgeunet.exporting import ExportOptions
from edgeunet.runtime.sources import Frames, SourceInfo

FRAMES = 60


@pytest.mark.slow(seconds=10)
def test_demo_exports_compares_and_segments(
    cells_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_before(output: Path, options: ExportOptions, **_: object) -> None:
        assert options == ExportOptions("mobile_unet", precision="int8", size=SIZE)
        shutil.copytree(cells_bundle, output)

    monkeypatch.setattr("edgeunet.demo.export_bundle", made_before)
    monkeypatch.setattr("edgeunet.demo.FRAMES", FRAMES)
    monkeypatch.setattr("edgeunet.demo.LABELLED", 8)
    result = demo(tmp_path / "demo")
    assert result.parity.first_failure is None, result.parity.table()
    assert result.parity.reference_miou > 85
    assert result.run.frames == FRAMES
    overlay = tmp_path / "demo" / "overlay.mp4"
    assert Frames.open(overlay).read().info == SourceInfo(FRAMES, RATE)
    plain = next(Frames.open(tmp_path / "demo" / "cells.mp4").read()).image
    drawn = next(Frames.open(overlay).read()).image
    assert plain.shape == drawn.shape == (*SIZE, 3)
    coloured = np.abs(drawn.astype(int) - plain).max(axis=2) > 25
    assert 0.02 < coloured.mean() < 0.9, "cells are coloured, the background is not"
    assert "all stages within tolerance" in (tmp_path / "demo" / "parity.html").read_text()
    assert {"infer", "preprocess", "postprocess", "decode", "sink"} == set(
        result.bench.batches[0].stages
    )
    assert cv2.imread(str(tmp_path / "demo" / "data" / "val" / "images" / "000000.png")) is not None


def test_demo_does_not_replace_an_existing_directory(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    with pytest.raises(OutputExistsError, match="--force"):
        demo(tmp_path / "demo")


@pytest.mark.parametrize("name", ["notes.txt", "data/notes.txt", "mobile_unet-int8/notes.txt"])
def test_force_deletes_no_other_files(tmp_path: Path, name: str, fp32_bundle: Path) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(fp32_bundle, folder / "mobile_unet-int8")
    (folder / "data").mkdir()
    for each in ("cells.mp4", "overlay.mp4", "parity.html", "parity.json"):
        (folder / each).touch()
    assert _strangers_in(folder) == []
    (folder / name).touch()
    with pytest.raises(UsageError, match=f"demo holds '{name}'"):
        demo(folder, force=True)
    (folder / name).unlink()
    (folder / "overlay.mp4").unlink()
    with pytest.raises(
        UsageError, match=r"holds 'cells\.mp4', 'data', 'mobile_unet-int8' and 2 more"
    ):
        demo(folder, force=True)
