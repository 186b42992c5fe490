"""Damaged files end in a result or an `EdgeUNetError`, within bounds of time and memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from support import fuzzing
from support.commands import ROOT
from support.media import numbered_frame, write_video

CASES = 250
SECONDS = 10.0  # for one case, on a busy machine
MEMORY = 500_000_000  # bytes that the process may grow by


def write_images(folder: Path, bundle: Path, checkpoint: Path) -> None:
    image = Image.fromarray(numbered_frame(3, (24, 32)))
    for kind in ("png", "jpg", "gif", "tif", "webp", "bmp"):
        image.save(folder / f"image.{kind}")
    image.save(folder / "progressive.jpg", progressive=True)
    image.save(folder / "packed.tif", compression="tiff_adobe_deflate")
    image.convert("P").save(folder / "palette.png")
    image.save(folder / "pages.tif", save_all=True, append_images=[image])
    image.save(folder / "animated.gif", save_all=True, append_images=[image.rotate(90)])


def write_videos(folder: Path, bundle: Path, checkpoint: Path) -> None:
    for suffix in ("mp4", "mkv", "avi", "ts"):
        write_video(folder / f"film.{suffix}", 6, size=(32, 48))


def write_jsons(folder: Path, bundle: Path, checkpoint: Path) -> None:
    shutil.copy(bundle / "manifest.json", folder)
    shutil.copy(checkpoint.with_suffix(".json"), folder / "card.json")
    data = {"classes": ["background", "cell"], "palette": [[0, 0, 0], [255, 0, 0]]}
    (folder / "dataset.json").write_text(json.dumps(data))


def write_checkpoints(folder: Path, bundle: Path, checkpoint: Path) -> None:
    shutil.copy(checkpoint, folder / "net.safetensors")
    shutil.copy(checkpoint.with_suffix(".json"), folder / "net.json")
    weights = load_file(checkpoint)
    torch.save({"state_dict": weights, "epoch": 3}, folder / "zipped.pth")
    torch.save(weights, folder / "old.pth", _use_new_zipfile_serialization=False)


WRITERS: dict[str, Callable[[Path, Path, Path], None]] = {
    "images": write_images,
    "videos": write_videos,
    "jsons": write_jsons,
    "checkpoints": write_checkpoints,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_damaged_files_are_read_or_refused(
    fp32_bundle: Path, checkpoint: Path, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / kind
    folder.mkdir()
    WRITERS[kind](folder, fp32_bundle, checkpoint)
    run = subprocess.run(
        [sys.executable, fuzzing.__file__, kind, str(CASES), "0", str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=CASES * SECONDS, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-4000:]
    told = json.loads(run.stdout.splitlines()[-1])
    assert sum(told["ends"].values()) == CASES
    assert told["ends"]["refused"] > 0
    assert told["slowest"] < SECONDS
    assert told["grown"] < MEMORY
