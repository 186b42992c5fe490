"""`edgeunet prune`: its output, and options that exclude each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from edgeunet.data.cells import write_dataset
from support.commands import call, data, fails, names

# prune


def test_prune_writes_a_checkpoint_that_exports(checkpoint: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=2, val=1, height=64, width=96, seed=1)
    output = tmp_path / "small.safetensors"
    arguments = ["prune", "--model", "mobile_unet", "--weights", checkpoint, "-o", output]
    channels = ["--ratio", "0.5", "--data", tmp_path / "data", "--finetune-epochs", "0"]
    report = data(*arguments, *channels)
    assert report["checkpoint"] == str(output)
    before, pruned = report["rows"]
    assert pruned["parameters"] < 0.5 * before["parameters"]
    assert "--force" in fails(2, *arguments, *channels)
    result = call(*arguments, *channels, "--force")
    assert result.exit_code == 0, result.output
    assert re.search(r"^pruned +[\d,]+ +\d+%", result.stdout, re.MULTILINE)
    assert result.stdout.endswith(f"wrote {output}\n")
    assert data(*export(output, tmp_path / "bundle", "--max-iou-drop", "100"))["parity"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "got none of --depth, --ratio and --to-latency"),
        (["--depth", "2", "--ratio", "0.5"], "got --depth and --ratio"),
        (["--depth", "5"], "1<=x<=4"),
        (["--depth", "2"], "mobile_unet has no depth to prune"),
        (["--ratio", "0.5"], "--ratio needs --data DIR"),
        (["--to-latency", "0.5"], "--to-latency needs --data DIR"),
        (["--to-latency", "1"], "x<1"),
        (["--to-latency", "0.5", "--depth", "1"], "got --depth and --to-latency"),
        (["--depth", "2", "--teacher", "unet:cells"], "--teacher is for --ratio"),
        (["--ratio", "0.5", "--data", "absent", "--finetune-epochs", "-1"], "x>=0"),
    ],
)
def test_prune_with_wrong_options(
    checkpoint: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    output = tmp_path / "small.safetensors"
    common = ["prune", "--model", "mobile_unet", "--weights", checkpoint, "-o", output]
    assert words in fails(2, *common, *arguments).splitlines()[-1]
    assert names(tmp_path) == []


# export


def export(
    checkpoint: object, output: Path, *more: object, model: str = "mobile_unet"
) -> list[Any]:
    return ["export", "--model", model, "--weights", checkpoint, "-o", output, *more]
