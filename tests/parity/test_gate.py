"""Gated bundles: thresholds, masks and decisions match those of the calibrated net."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import PARTS, Flavour, part_file
from edgeunet.data.cells import CellFrame
from edgeunet.errors import BundleError
from edgeunet.metrics import Mask, pixel_agreement
from edgeunet.models.checkpoints import Checkpoint, read_card
from edgeunet.models.reference import reference_mask
from edgeunet.parity import ParityReport, golden_samples, measure, write_html
from edgeunet.runtime import load
from edgeunet.runtime.backends.ort import open_flavour
from edgeunet.runtime.frames import Batch
from edgeunet.runtime.sources.labelled import LabelledFrame
from support.commands import succeeds
from support.exports import make_bundle

FLAVOURS: tuple[Flavour, ...] = ("fp32", "fp16", "int8.cpu")


@pytest.fixture(scope="module")
def frames(gated_frames: list[CellFrame]) -> list[CellFrame]:
    return gated_frames[::2]


@pytest.fixture(scope="module")
def bundle(gated_bundle: Path) -> Path:
    return gated_bundle


@pytest.fixture(scope="module")
def ungated(uncalibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(uncalibrated, tmp_path_factory.mktemp("ungated"), "fp32")


def compare(bundle: Path, frames: Sequence[CellFrame], **arguments: Any) -> ParityReport:
    samples = [LabelledFrame(str(i), frame.image, frame.mask) for i, frame in enumerate(frames)]
    return measure(open_bundle(bundle), samples, data="cells", **arguments)[0]


@pytest.fixture(scope="module")
def parity(bundle: Path, frames: Sequence[CellFrame]) -> ParityReport:
    return compare(bundle, frames)


def test_manifest_holds_the_gate_of_the_card(bundle: Path, calibrated: Path) -> None:
    opened = open_bundle(bundle)
    assert opened.manifest.gate == read_card(calibrated).gate
    assert read_card(bundle / "checkpoint.safetensors").gate == opened.manifest.gate


@pytest.fixture(scope="module")
def expected(calibrated: Path, frames: Sequence[CellFrame]) -> list[Mask]:
    """PyTorch's masks of the frames, some of which the gate changes."""
    opened = Checkpoint.open(calibrated)
    net, card = opened.net, opened.card
    gated, plain = (
        [reference_mask(net, frame.image, card.input, thresholds=gate) for frame in frames]
        for gate in (card.gate, None)
    )
    assert not all(map(np.array_equal, gated, plain)), "the gate changes no mask"
    return gated


@pytest.mark.parametrize(
    ("flavour", "wanted"), [("fp32", 0.9999), ("fp16", 0.999), ("int8.cpu", 0.99)]
)
def test_masks_match_pytorch_with_the_same_thresholds(
    bundle: Path,
    frames: Sequence[CellFrame],
    expected: Sequence[Mask],
    flavour: Flavour,
    wanted: float,
) -> None:
    with open_flavour(open_bundle(bundle), flavour) as backend:
        agreements = [
            pixel_agreement(backend.segment(Batch.of([frame.image])).masks[0], reference)
            for frame, reference in zip(frames, expected, strict=True)
        ]
    assert np.mean(agreements) >= wanted


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_frames_without_cells_are_background_and_skipped(
    bundle: Path, frames: Sequence[CellFrame], flavour: Flavour
) -> None:
    empty = [frame for frame in frames if not frame.mask.any()]
    assert len(empty) > 5
    opened = open_bundle(bundle)
    assert opened.manifest.gate is not None
    with open_flavour(opened, flavour) as backend:
        for frame in empty:
            result = backend.segment(Batch.of([frame.image]))
            assert result.presence is not None
            closed = result.presence[0] < np.float32(opened.manifest.gate)
            assert closed.tolist() == [False, True, True]
            assert not result.masks.any()


def test_only_calibrated_gates_are_exported_in_parts(bundle: Path, ungated: Path) -> None:
    for flavour in open_bundle(bundle).manifest.flavours:
        for part in PARTS:
            assert (bundle / part_file(flavour, part)).is_file()
    assert not list(ungated.glob("*encoder*"))


def test_refuses_a_bundle_with_only_one_part(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["files"][part_file("fp32", "decoder")]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="lists no hash for"):
        open_bundle(copy)


def test_parity_counts_skipped_frames(
    parity: ParityReport, bundle: Path, frames: Sequence[CellFrame]
) -> None:
    gate = parity.gate
    assert gate is not None and gate.report is not None
    empty = sum(not frame.mask.any() for frame in frames)
    assert (gate.report.images, gate.report.empty) == (len(frames), empty)
    assert gate.report.skipped_empty == 1
    assert gate.report.open_filled == 1
    assert gate.report.skipped == empty / len(frames)
    assert gate.decisions == 3 * len(frames)
    assert gate.report.thresholds == open_bundle(bundle).manifest.gate
    assert [len(curve) > 1 for curve in gate.curves] == [False, True, True]


def test_int8_presence_is_close_to_pytorch(
    parity: ParityReport, bundle: Path, frames: Sequence[CellFrame]
) -> None:
    gate = parity.gate
    assert gate is not None
    assert 0 < gate.presence_mean < 0.05
    assert gate.changed <= 0.05 * gate.decisions
    exact = compare(bundle, frames[::5], backend="pytorch").gate
    assert exact is not None
    assert (exact.changed, exact.presence_max < 1e-3) == (0, True)


def test_golden_masks_are_gated(bundle: Path) -> None:
    opened = Checkpoint.open(bundle / "checkpoint.safetensors")
    net, card = opened.net, opened.card
    golden = open_bundle(bundle).golden()
    for frame, mask in zip(golden.frames, golden.masks, strict=True):
        wanted = reference_mask(net, frame, card.input, thresholds=card.gate)
        np.testing.assert_array_equal(mask, wanted)


def test_parity_detects_other_thresholds_in_the_manifest(
    bundle: Path, frames: Sequence[CellFrame], tmp_path: Path
) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["gate"] = [0.0, 1.0, 1.0]  # closes classes that are present
    (copy / "manifest.json").write_text(json.dumps(manifest))
    report = compare(copy, frames[::5], backend="pytorch")
    assert report.first_failure == "postprocessing"
    assert report.gate is not None and report.gate.changed > 0


def test_without_labels_only_decisions_are_compared(bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(bundle)
    report, worst = measure(opened, golden_samples(opened), data="golden")
    assert report.gate is not None
    assert report.gate.report is None
    assert report.gate.decisions == 3 * len(opened.golden().frames)
    assert "gate decisions differ" in report.table()
    write_html(tmp_path / "parity.html", report, worst, opened.manifest.palette)
    assert "<svg" not in (tmp_path / "parity.html").read_text()


def test_page_and_json_show_the_gate(parity: ParityReport, bundle: Path, tmp_path: Path) -> None:
    palette = open_bundle(bundle).manifest.palette
    renamed = replace(parity, classes=("background", "a<b", "c&d"))
    assert renamed.gate is not None and renamed.gate.report is not None
    entries = [
        replace(entry, name=name)
        for entry, name in zip(renamed.gate.report.classes, renamed.classes, strict=True)
    ]
    judged = replace(renamed.gate.report, classes=tuple(entries))
    write_html(
        tmp_path / "parity.html",
        replace(renamed, gate=replace(renamed.gate, report=judged)),
        [],
        palette,
    )
    page = (tmp_path / "parity.html").read_text()
    assert page.count("<svg") == 1
    assert page.count("<polyline") == 2, "a class that every frame holds has no curve"
    assert "a&lt;b, AUC" in page and "c&amp;d" in page
    assert "a<b" not in page
    assert "http" not in page
    data = json.loads(json.dumps(parity.to_json()))["gate"]
    assert data["report"]["classes"][1]["name"] == "cell"
    assert data["curves"][1][-1] == [1, 1]
    assert data["changed"] == renamed.gate.changed


def test_bundle_without_thresholds_runs_ungated(
    ungated: Path, uncalibrated: Path, frames: Sequence[CellFrame]
) -> None:
    opened = Checkpoint.open(uncalibrated)
    net, card = opened.net, opened.card
    with load(ungated) as segmenter:
        assert segmenter.manifest.gate is None
        for frame in frames[::5]:
            result = segmenter([frame.image])
            assert result.presence is not None and result.presence.shape == (1, 3)
            wanted = reference_mask(net, frame.image, card.input)
            assert pixel_agreement(result.masks[0], wanted) >= 0.9999
    report = compare(ungated, frames[::5])
    assert report.gate is None
    assert report.to_json()["gate"] is None


def test_inspect_prints_the_gate(bundle: Path, ungated: Path, fp32_bundle: Path) -> None:
    gate = open_bundle(bundle).manifest.gate
    assert gate is not None
    shown = re.search(
        r"^gate +background 0, cell (\S+), dividing (\S+)$",
        succeeds("inspect", bundle).stdout,
        re.MULTILINE,
    )
    assert shown is not None
    assert [float(value) for value in shown.groups()] == pytest.approx(gate[1:], rel=1e-3)
    assert re.search("gate +not calibrated, so unused", succeeds("inspect", ungated).stdout)
    assert re.search("gate +none", succeeds("inspect", fp32_bundle).stdout)
