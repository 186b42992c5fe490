"""The example of a user's own net runs, and its net opens by name too."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

import edgeunet
from edgeunet.data.cells import snapshots
from edgeunet.exporting.options import ExportOptions
from edgeunet.exporting.origins import open_origin
from support.commands import ROOT
from support.exports import need_simulator
from support.media import write_png, write_video

EXAMPLE = ROOT / "examples" / "own_unet"


def test_example_goes_from_a_script_to_int8_video(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    need_simulator()
    frames = tmp_path / "frames"
    frames.mkdir()
    for index, frame in enumerate(snapshots(10, height=64, width=96, seed=5)):
        write_png(frames / f"{index}.png", frame.image)
    video, bundle = write_video(tmp_path / "video.mp4", 6), tmp_path / "own"
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.delitem(sys.modules, "net", raising=False)
    assert runpy.run_path(str(EXAMPLE / "to_video.py"))["main"](frames, video, bundle) == 6
    assert "frame 5: " in capsys.readouterr().out
    with edgeunet.load(bundle) as segmenter:
        manifest = segmenter.manifest
    assert (manifest.precision, manifest.classes) == ("int8", ("dark", "bright"))


def test_net_of_the_example_opens_by_its_name(tmp_path: Path) -> None:
    net = runpy.run_path(str(EXAMPLE / "net.py"))["make_net"](4)
    torch.save(net.state_dict(), tmp_path / "own_unet.pth")
    options = ExportOptions(
        f"{EXAMPLE / 'net.py'}:make_net",
        str(tmp_path / "own_unet.pth"),
        size=(64, 96),
        arch=("width=4",),
    )
    assert open_origin(options).card.classes == ("class 0", "class 1")
