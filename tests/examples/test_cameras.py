"""The example of several cameras runs, and one that fails is told."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from support.commands import ROOT
from support.media import cut_to, write_video

EXAMPLE = ROOT / "examples" / "cameras" / "watch.py"


def test_example_segments_several_sources(
    fp32_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    door = write_video(tmp_path / "door.mp4", 4)
    yard = cut_to(write_video(tmp_path / "yard.mp4", 12, size=(80, 64), index_first=True), 0.6)
    frames = runpy.run_path(str(EXAMPLE))["main"](fp32_bundle, f"door={door}", f"yard={yard}")
    assert frames["door"] == 4
    assert 1 < frames["yard"] < 12
    out, err = capsys.readouterr()
    assert "\ndoor: 4 frames, 0 dropped" in out
    assert ", failed\n" in out
    assert "1 of 2 sources failed; the others are done. The first: yard: " in err
