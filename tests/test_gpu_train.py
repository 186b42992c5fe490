"""`benchmarks/gpu_train.sh` on the CPU: what it carries is enough, and what it brings home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeunet.models.checkpoints import read_card
from support.commands import ROOT
from support.media import write_png

SCRIPT = ROOT / "benchmarks" / "gpu_train.sh"
TRIAL = ("--device", "cpu", "--crop", "64x64", "--batch", "2", "--seconds", "0.2")


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """A data set of CamVid's classes, as stripes."""
    folder = tmp_path / "streets"
    card = read_card(ROOT / "edgeunet" / "weights" / "eff_unet.camvid.safetensors")
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for index in range(count):
            mask = np.arange(96).repeat(64).reshape(96, 64).T // 9 + np.zeros((64, 96), np.uint8)
            mask = np.roll(np.minimum(mask, 10), int(rng.integers(96)), 1)
            frame = rng.integers(0, 99, (64, 96, 3)) + 10 * mask[..., None]
            for kind, pixels in (("images", frame), ("masks", mask)):
                (folder / split / kind).mkdir(parents=True, exist_ok=True)
                write_png(folder / split / kind / f"{index}.png", pixels.astype(np.uint8))
    (folder / "dataset.json").write_text(
        json.dumps({"name": "camvid", "classes": card.classes, "ignore": 255}), encoding="utf-8"
    )
    return folder


def script(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    if path is not None:
        environment["PATH"] = f"{path}:{environment['PATH']}"
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, check=False
    )


def test_host_trains_with_what_is_carried_and_its_results_come_home(
    streets: Path, tmp_path: Path
) -> None:
    programs, out = tmp_path / "programs", tmp_path / "out"
    programs.mkdir()
    ssh = programs / "ssh"  # the host is this machine
    ssh.write_text('#!/bin/sh\necho "$1" >> "$0.log"\nshift\ncd / && exec sh -c "$*"\n')
    ssh.chmod(0o755)
    given = ("--host", "gpu", "--data", str(streets), "-o", str(out), *TRIAL)
    found = script(*given, "--epochs", "1", "--only", "mobile_unet-light", path=programs)
    assert found.returncode == 0, found.stdout + found.stderr
    assert set((programs / "ssh.log").read_text().split()) == {"gpu"}
    assert "mobile_unet-light: " in found.stdout and "crops/s of random tensors" in found.stdout
    card = read_card(out / "mobile_unet-light" / "best.safetensors")
    assert card.arguments["decoder"] == "light" and card.training is not None
    assert card.training["epochs"] == 1 and card.training["teacher"]["name"] == "eff_unet:camvid"
    assert card.training["with_val"] is True and card.training["photometry"] == "camera"
    (rate,) = map(json.loads, (out / "rates.jsonl").read_text().splitlines())
    assert rate["net"] == "mobile_unet-light" and rate["exit"] == 0 and rate["epochs"] == 1
    assert min(rate["random"], rate["fed"], rate["sustained"]) > 0
    assert (out / "mobile_unet-light.log").stat().st_size
    assert (out / "mobile_unet-light" / "log.jsonl").is_file()
    assert not list(out.rglob("last.pt"))


def test_net_that_fails_is_named(streets: Path, tmp_path: Path) -> None:
    wrong = ("--crop", "60x60", "--only", "mobile_unet", "--only", "eff_unet-lite0")
    found = script("--data", str(streets), "-o", str(tmp_path / "out"), *TRIAL, *wrong)
    assert found.returncode == 1
    assert "mobile_unet: " in found.stderr and "60x60" in found.stderr
    assert "not trained: mobile_unet, eff_unet-lite0" in found.stderr


def test_without_data_says_what_is_expected(tmp_path: Path) -> None:
    found = script("-o", str(tmp_path))
    assert found.returncode == 2
    assert "expected --data DIR and -o OUT" in found.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_says_how_to_try_it(streets: Path, tmp_path: Path) -> None:
    found = script("--data", str(streets), "-o", str(tmp_path / "out"))
    assert found.returncode == 1
    assert "PyTorch finds no CUDA here. Pass --device cpu" in found.stderr
    assert not (tmp_path / "out").exists()
