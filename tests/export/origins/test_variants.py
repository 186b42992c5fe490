"""Bundles that carry several depths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeunet.bundle.calibration_table import read_table
from edgeunet.bundle.card import Card
from edgeunet.bundle.engines import list_engines
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import CLASSES, PALETTE
from edgeunet.errors import CheckpointError, ParityError, UsageError
from edgeunet.exporting import ExportOptions, export_bundle
from edgeunet.files import sha256
from edgeunet.models import create_model
from edgeunet.models.checkpoints import save_checkpoint
from edgeunet.runtime import load, open_bundle
from support.commands import fails, succeeds
from support.depths import edit, edit_nested
from support.small_bundle import write_bundle


def net_at(folder: Path, **arguments: Any) -> str:
    """Checkpoint of a U-Net++ of depth 2 with random weights."""
    torch.manual_seed(0)
    arguments = {"num_classes": 3, "in_channels": 3, "width": 4, "depth": 2, **arguments}
    net = create_model("unetpp", **arguments)
    card = Card("unetpp", arguments, CLASSES, PALETTE, InputSpec(32, 32), "cells")
    save_checkpoint(folder / "net.safetensors", net, card)
    return str(folder / "net.safetensors")


# Content


def test_bundle_holds_the_deepest_net_and_carries_the_others(depths_bundle: Path) -> None:
    bundle = open_bundle(depths_bundle)
    assert bundle.depths == (1, 2, 3)
    assert bundle.at_depth(3) is bundle
    for depth in (1, 2):
        carried = bundle.at_depth(depth)
        assert carried.root == depths_bundle / "depths" / str(depth)
        assert carried == open_bundle(carried.root)
        assert carried.depths == ()
    assert [bundle.at_depth(depth).manifest.arguments["depth"] for depth in (1, 2, 3)] == [1, 2, 3]


def test_every_depth_is_verified_on_the_same_frames_with_its_own_masks(
    depths_bundle: Path,
) -> None:
    bundle = open_bundle(depths_bundle)
    goldens = [bundle.at_depth(depth).golden() for depth in bundle.depths]
    for other in goldens[1:]:
        np.testing.assert_array_equal(other.frames, goldens[0].frames)
        assert not np.array_equal(other.logits, goldens[0].logits)
    for depth in bundle.depths:
        parity = json.loads((bundle.at_depth(depth).root / "parity.json").read_text())
        assert parity["ok"] is True
        assert parity["bundle"] == "bundle" + ("" if depth == 3 else f"/depths/{depth}")
        with load(bundle.at_depth(depth).root) as segmenter:
            assert segmenter.self_check() > 0.999


def test_carried_depth_equals_a_bundle_of_that_depth_alone(
    depths_checkpoint: Path, depths_bundle: Path, tmp_path: Path
) -> None:
    options = ExportOptions("unetpp", str(depths_checkpoint), depth=2)
    export_bundle(tmp_path / "alone", options)
    alone, carried = open_bundle(tmp_path / "alone"), open_bundle(depths_bundle).at_depth(2)
    assert alone.manifest.files["model.fp32.onnx"] == carried.manifest.files["model.fp32.onnx"]
    np.testing.assert_array_equal(alone.golden().masks, carried.golden().masks)


def test_precision_applies_to_every_depth(tmp_path: Path) -> None:
    options = ExportOptions(
        "unetpp", net_at(tmp_path), "int8", depths=(2, 1), calib_method="minmax", max_iou_drop=100
    )
    export_bundle(tmp_path / "bundle", options)
    bundle = open_bundle(tmp_path / "bundle")
    tables = [read_table(bundle.at_depth(d).root / "calibration.json") for d in (1, 2)]
    assert tables[0].graph != tables[1].graph
    assert tables[0].ranges["image"] == tables[1].ranges["image"], "other frames"
    assert bundle.at_depth(1).manifest.precision == "int8"
    half = bundle.at("fp16")
    assert half.depths == (1, 2)
    for chosen in (half.at_depth(1), half.at_depth(2), bundle.at_depth(1).at("fp16")):
        assert chosen.manifest.precision == "fp16"
    with pytest.raises(UsageError, match="exported for fp16"):
        half.at_depth(1).at("int8")


def test_inspect_lists_the_depths(depths_bundle: Path) -> None:
    assert "depths      1, 2, 3\n" in succeeds("inspect", depths_bundle).stdout
    assert "depths      one\n" in succeeds("inspect", depths_bundle / "depths" / "1").stdout
    manifest = json.loads(succeeds("inspect", depths_bundle, "--json").stdout)
    wanted = {str(d): sha256(depths_bundle / f"depths/{d}/manifest.json") for d in (1, 2)}
    assert manifest["depths"] == wanted


def test_build_makes_engines_for_every_depth(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    root = write_bundle(tmp_path / "bundle")
    (root / "depths").mkdir()
    edit(root / "manifest.json", lambda manifest: manifest["arguments"].update(depth=2))
    write_bundle(root / "depths" / "1")
    edit_nested(root, 1, lambda manifest: manifest["arguments"].update(depth=1))
    succeeds("build", root, "--runtime", "rtx", "--targets", "sm89")
    for place in (root, root / "depths" / "1"):
        (engine,) = list_engines(open_bundle(place))
        assert engine.problem is None
        assert engine.path.parent == place / "engines"


# Refused exports


@pytest.mark.parametrize(
    ("depths", "words"),
    [
        ("2", "depths is 2; expected two or more"),
        ("1,2,1", "depths is 1,2,1; expected each depth once"),
        ("1,4", "depth is 4; this unetpp has depths 1 to 3"),
        ("0,1", "depth is 0; this unetpp has depths 1 to 3"),
        ("1,x", "'1,x' is not a list of numbers, such as 1,2,4"),
        ("", "'' is not a list of numbers"),
    ],
)
def test_refuses_depths_that_cannot_be_carried(
    depths_checkpoint: Path, tmp_path: Path, depths: str, words: str
) -> None:
    arguments = ["--model", "unetpp", "--weights", depths_checkpoint, "--depths", depths]
    assert words in fails(2, "export", *arguments, "-o", tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"depth": 2}, "got both depth and depths"),
        ({"calib_table": Path("table.json")}, "a table belongs to the graph of one depth"),
        ({"ensemble": True}, "has no ensemble"),
    ],
)
def test_refuses_several_depths_with_options_of_one(
    depths_checkpoint: Path, tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    options = ExportOptions("unetpp", str(depths_checkpoint), depths=(1, 2), **more)
    with pytest.raises(UsageError, match=words):
        export_bundle(tmp_path / "bundle", options)
    assert list(tmp_path.iterdir()) == []


def test_refuses_depths_of_other_variants(checkpoint: Path, tmp_path: Path) -> None:
    options = ExportOptions("mobile_unet", str(checkpoint), depths=(1, 2))
    with pytest.raises(UsageError, match="mobile_unet has no depth to prune; unetpp has"):
        export_bundle(tmp_path / "bundle", options)


def test_refuses_depths_of_a_net_with_a_gate(tmp_path: Path) -> None:
    options = ExportOptions("unetpp", net_at(tmp_path, cgm=True), depths=(1, 2))
    with pytest.raises(UsageError, match=r"has a gate, .*shallower depths would run without"):
        export_bundle(tmp_path / "bundle", options)


def test_refuses_depths_without_a_head(tmp_path: Path) -> None:
    options = ExportOptions("unetpp", net_at(tmp_path, deep_supervision=False), depths=(1, 2))
    with pytest.raises(CheckpointError, match="no head at depth 1"):
        export_bundle(tmp_path / "bundle", options)


def test_names_a_depth_outside_its_budget_and_writes_nothing(
    depths_checkpoint: Path, tmp_path: Path
) -> None:
    options = ExportOptions("unetpp", str(depths_checkpoint), depths=(2, 3), max_iou_drop=-1.0)
    with pytest.raises(ParityError, match=r"^depth 2: .*No bundle was written"):
        export_bundle(tmp_path / "bundle", options)
    assert list(tmp_path.iterdir()) == []


def test_failure_at_the_last_depth_leaves_no_files(depths_checkpoint: Path, tmp_path: Path) -> None:
    def fail(step: str) -> None:
        if step == "depth 3":
            assert list(tmp_path.glob(".edgeunet-*.tmp/depths/2/manifest.json")), (
                "depth 2 is not in the temporary folder"
            )
            raise KeyboardInterrupt

    options = ExportOptions("unetpp", str(depths_checkpoint), depths=(2, 3))
    with pytest.raises(KeyboardInterrupt):
        export_bundle(tmp_path / "bundle", options, report=fail)
    assert list(tmp_path.iterdir()) == []
