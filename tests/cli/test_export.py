"""`edgeunet export`: what it writes, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from edgeunet.catalogue import list_weights
from support.commands import data, fails, finish, names, start, succeeds
from support.media import cut_to

VARIANTS = ["eff_unet", "mobile_unet", "resunet", "unet", "unet3p", "unetpp"]


# export


def export(
    checkpoint: object, output: Path, *more: object, model: str = "mobile_unet"
) -> list[Any]:
    return ["export", "--model", model, "--weights", checkpoint, "-o", output, *more]


def test_export_writes_a_bundle_that_runs(checkpoint: Path, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    printed = data(*export(checkpoint, output, "--size", "96x128", "--max-batch", "2"))
    assert printed["bundle"] == str(output)
    assert printed["parity"]["ok"] is True
    assert names(tmp_path) == ["bundle"]
    manifest = data("inspect", output)
    assert (manifest["input"]["height"], manifest["input"]["width"]) == (96, 128)
    assert manifest["max_batch"] == 2
    assert data("run", output, images, "--batch", "2")["frames"] == 5


def test_export_onto_an_existing_output(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "kept").write_bytes(b"kept")
    message = fails(2, *export(checkpoint, tmp_path / "bundle"))
    assert "bundle exists already" in message
    assert "--force" in message
    assert names(tmp_path) == ["bundle"]
    assert names(tmp_path / "bundle") == ["kept"]


def test_force_replaces_a_bundle_but_no_other_files(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    output.mkdir()
    succeeds(*export(checkpoint, output, "--force"))
    before = (output / "manifest.json").stat().st_ino
    succeeds(*export(checkpoint, output, "--force"))
    assert (output / "manifest.json").stat().st_ino != before
    (output / "thesis.doc").write_text("years of work")
    message = fails(2, *export(checkpoint, output, "--force"))
    assert f"{output} holds 'thesis.doc'. --force replaces an empty folder" in message
    assert (output / "thesis.doc").read_text() == "years of work"


@pytest.mark.parametrize(
    ("size", "near"), [("65x96", "96x96"), ("64x97", "64x128"), ("1x96", "32x96")]
)
def test_export_proposes_a_size_that_the_net_takes(
    checkpoint: Path, tmp_path: Path, size: str, near: str
) -> None:
    message = fails(2, *export(checkpoint, tmp_path / "bundle", "--size", size))
    assert f"size is {size}; MobileUNet needs multiples of 32" in message
    assert f"--size {near}" in message
    assert names(tmp_path) == []


def test_export_with_two_precisions(checkpoint: Path, tmp_path: Path) -> None:
    message = fails(2, *export(checkpoint, tmp_path / "bundle", "--fp16", "--int8"))
    assert "--fp16" in message
    assert "--int8" in message


def test_export_at_a_depth_is_for_unetpp(checkpoint: Path, tmp_path: Path) -> None:
    message = fails(2, *export(checkpoint, tmp_path / "bundle", "--depth", "2"))
    assert "mobile_unet has no depth to prune; unetpp has" in message
    assert names(tmp_path) == []


def test_export_of_an_unknown_model_lists_the_known_ones(checkpoint: Path, tmp_path: Path) -> None:
    message = fails(2, *export(checkpoint, tmp_path / "bundle", model="vnet"))
    assert "'vnet'" in message
    assert ", ".join(VARIANTS) in message


def test_export_of_an_unknown_tag_lists_the_known_ones(tmp_path: Path) -> None:
    message = fails(2, *export("nosuch", tmp_path / "bundle"))
    assert "unknown weights of mobile_unet 'nosuch'. Known: " in message
    assert (", ".join(list_weights("mobile_unet")) or "none") in message


def copied(checkpoint: Path, folder: Path, **changes: Any) -> Path:
    """Copy of the checkpoint whose card says something else."""
    path = folder / "copy.safetensors"
    shutil.copy(checkpoint, path)
    card = json.loads(checkpoint.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, **changes}))
    return path


def test_int8_of_foreign_data_asks_for_frames(checkpoint: Path, tmp_path: Path) -> None:
    weights = copied(checkpoint, tmp_path, data="camvid")
    message = fails(1, *export(weights, tmp_path / "bundle", "--int8"))
    assert "camvid" in message
    assert "--calib" in message
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("kind", ["absent", "empty"])
def test_calibration_without_images(checkpoint: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "empty").mkdir()
    message = fails(
        1, *export(checkpoint, tmp_path / "bundle", "--int8", "--calib", tmp_path / kind)
    )
    assert f"{kind} {'does not exist' if kind == 'absent' else 'holds no image'}" in message


def test_checkpoint_of_another_class_count(checkpoint: Path, tmp_path: Path) -> None:
    message = fails(1, *export(checkpoint, tmp_path / "bundle", "--num-classes", "5"))
    assert "has 3 classes; --num-classes 5" in message


def test_checkpoint_of_another_net(checkpoint: Path, tmp_path: Path) -> None:
    message = fails(1, *export(checkpoint, tmp_path / "bundle", model="unetpp"))
    assert "is a checkpoint of mobile_unet; unetpp was asked for" in message


def test_weights_without_a_card(checkpoint: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copy(checkpoint, tmp_path / "bare.safetensors"))
    message = fails(2, *export(bare, tmp_path / "bundle"))
    assert "no card bare.json" in message
    assert "Pass --size" in message
    assert "both sides must be at least 1" in fails(
        2, *export(bare, tmp_path / "bundle", "--size", "0x96")
    )
    tensors = load_file(bare)
    save_file({**tensors, "head.weight": tensors["head.weight"][:, 1:].contiguous()}, bare)
    message = fails(1, *export(bare, tmp_path / "bundle", "--size", "64x96"))
    assert "does not fit MobileUNet with 3 classes" in message
    assert re.search(r"differs in \S+ \(\d.*\) instead of \(\d", message)


def test_normalisation_is_for_weights_without_a_card(checkpoint: Path, tmp_path: Path) -> None:
    message = fails(2, *export(checkpoint, tmp_path / "bundle", "--mean", "0.5"))
    assert "has a card, which says how frames are prepared" in message
    message = fails(2, *export(checkpoint, tmp_path / "bundle", "--std", "0.5,x"))
    assert "'0.5,x' is not a list of numbers" in message


def test_weights_that_cannot_be_read(checkpoint: Path, tmp_path: Path) -> None:
    weights = cut_to(copied(checkpoint, tmp_path), 0.5)
    message = fails(1, *export(weights, tmp_path / "bundle"))
    assert "copy.safetensors cannot be read as weights" in message


def test_kill_during_export_leaves_no_bundle(checkpoint: Path, tmp_path: Path) -> None:
    process = start(*export(checkpoint, tmp_path / "bundle", "--int8"))
    ends = time.monotonic() + 60
    while not list(tmp_path.glob(".edgeunet-*.tmp/model.fp32.onnx")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < ends
        time.sleep(0.005)
    process.kill()
    code, _, _ = finish(process)
    assert code == -signal.SIGKILL
    assert not (tmp_path / "bundle").exists()
    fails(1, "inspect", tmp_path / "bundle")
