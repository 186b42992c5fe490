"""INT8 that loses too much: equal channels, floats or training, whichever keeps most of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.calibration_table import TABLE_NAME, CalibrationTable, read_table
from edgeunet.bundle.manifest import FLAVOURS, flavour_file
from edgeunet.bundle.schema import encode
from edgeunet.data.cells import snapshots, write_dataset
from edgeunet.data.fit import Reading
from edgeunet.errors import CheckpointError, ExportError, UsageError
from edgeunet.exporting import ExportOptions, export_bundle
from edgeunet.exporting.graphs.passes.graph import load, save
from edgeunet.exporting.int8.training import Int8Training
from edgeunet.exporting.pipeline import export
from edgeunet.exporting.proof import Proof
from edgeunet.exporting.repair import Repair, Way
from edgeunet.files import sha256
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.parity import ParityReport
from edgeunet.parity.torch_reference import TorchReference
from edgeunet.steps import Steps
from support.exports import need_simulator, table_of
from support.hard import widened

DROP = 4.0
"""Points of mIoU that may be lost with the spoiled table, and eight times the usual pixels."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_simulator()
    folder = tmp_path_factory.mktemp("data") / "cells"
    write_dataset(folder, train=48, val=6, height=64, width=96, seed=5)
    return folder


@pytest.fixture(scope="module")
def plain(shallow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The net without INT8."""
    output = tmp_path_factory.mktemp("plain") / "bundle"
    export_bundle(output, ExportOptions("unetpp", str(shallow), "fp16"))
    return output


@pytest.fixture(scope="module")
def table(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spoiled table of the net. Exports that are given one leave channels as they are."""
    frames = [frame.image for frame in snapshots(8, height=64, width=96, seed=4)]
    spec = open_bundle(plain).manifest.input
    found = widened(table_of(plain / flavour_file("fp32"), frames, spec))
    path = tmp_path_factory.mktemp("table") / "table.json"
    path.write_text(json.dumps(encode(found)))
    return path


def spoiled(shallow: Path, table: Path, data: Path, *, epochs: int) -> ExportOptions:
    return ExportOptions(
        "unetpp",
        str(shallow),
        "int8",
        calib_table=table,
        data=data,
        max_iou_drop=DROP,
        qat_epochs=epochs,
    )


def ways(report: ParityReport) -> list[str]:
    return [attempt.way for attempt in report.attempts]


def files(bundle: Path, *, int8: bool) -> dict[str, bytes]:
    """Of the graphs, and of the table for those in INT8."""
    names = [flavour_file(f) for f in FLAVOURS["int8"] if f.startswith("int8") is int8]
    return {name: (bundle / name).read_bytes() for name in (*names, *([TABLE_NAME] * int8))}


def test_equal_channels_need_no_layers_in_float(hard: Path, data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    options = ExportOptions("unetpp", str(hard), "int8", data=data, qat_epochs=3)
    report = export_bundle(tmp_path / "bundle", options, report=said.append)
    calibrated, equalised = report.attempts
    assert ways(report) == ["calibrated", "equalised"]
    assert calibrated.agreement < 0.95 < 0.98 < equalised.agreement
    assert {"int8", "trt int8", "trt int8.fp16", "openvino int8", "qnn int8"} == {
        stage.name for stage in report.deployed if stage.agreement > 0.98
    }
    assert report.fallbacks == ()
    assert f"INT8 {equalised.line()}" in said
    assert said[-1] == "INT8 holds its budget as equalised: no training"
    open_bundle(tmp_path / "bundle")  # its hashes fit

    # Only INT8 has the channels of the other graph.
    export_bundle(tmp_path / "plain", replace(options, precision="fp16", qat_epochs=0))
    assert files(tmp_path / "bundle", int8=False) == files(tmp_path / "plain", int8=False)
    reference = tmp_path / "bundle" / flavour_file("fp32")
    assert read_table(tmp_path / "bundle" / TABLE_NAME).graph != sha256(reference)


@pytest.fixture(scope="module")
def fallen(
    shallow: Path, table: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ParityReport]:
    """A bundle with layers in float, and its report."""
    output = tmp_path_factory.mktemp("fallen") / "bundle"
    report = export_bundle(output, spoiled(shallow, table, data, epochs=0))
    assert ways(report) == ["calibrated", "with layers in float"]
    assert report.fallbacks, "nothing to repair"
    return output, report


class Interrupted(Steps):
    """Hears of steps, and interrupts a training."""

    def __init__(self, after: int = 0) -> None:
        super().__init__()
        self.said: list[str] = []
        self.trained: list[int] = []
        self._after = after

    def begin(self, name: str) -> None:
        self.said.append(name)

    def count(self, done: int, total: int | None = None) -> None:
        if self.said[-1].startswith("training"):
            self.trained.append(done)
            if done == self._after:
                raise KeyboardInterrupt


def test_training_keeps_layers_in_int8_that_calibration_puts_in_float(
    shallow: Path,
    table: Path,
    data: Path,
    plain: Path,
    fallen: tuple[Path, ParityReport],
    tmp_path: Path,
) -> None:
    """Interrupted in the second of five epochs of six steps, and resumed."""
    output, options = tmp_path / "bundle", spoiled(shallow, table, data, epochs=5)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(output, options, report=Interrupted(after=8))
    assert [path.name for path in tmp_path.iterdir()] == ["bundle.qat.pt"]
    steps = Interrupted()
    report = export_bundle(output, options, report=steps)
    assert steps.trained == list(range(7, 31))
    assert "training INT8 on 48 images" in steps.said
    calibrated, floats, trained = report.attempts
    assert ways(report) == ["calibrated", "with layers in float", "trained for 5 epochs"]
    assert trained.floats == len(report.fallbacks) < floats.floats
    assert trained.agreement > calibrated.agreement
    assert f"INT8 {trained.line()}" in report.table()
    stored = json.loads((output / "parity.json").read_text())
    assert stored["attempts"][-1]["way"] == trained.way
    assert trained.way in (output / "parity.html").read_text()
    open_bundle(output)  # its hashes fit
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]  # and no state is left
    assert files(output, int8=False) == files(plain, int8=False)
    found, before = files(output, int8=True), files(fallen[0], int8=True)
    assert [name for name in found if found[name] == before[name]] == []


def test_training_that_wins_nothing_leaves_layers_in_float(
    shallow: Path,
    table: Path,
    data: Path,
    fallen: tuple[Path, ParityReport],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spoil(run: Int8Training, path: Path, **_: object) -> CalibrationTable:
        model = load(run.reference)
        for value in model.graph.initializers.values():
            held = value.const_value.numpy()
            if held.ndim == 4:
                value.const_value = ir.tensor(held * 0.0, name=value.name)
        save(model, path)
        return run.table

    monkeypatch.setattr(Int8Training, "run", spoil)
    report = export_bundle(tmp_path / "bundle", spoiled(shallow, table, data, epochs=1))
    assert ways(report) == ["calibrated", "trained for 1 epoch", "with layers in float"]
    assert report.fallbacks
    assert files(tmp_path / "bundle", int8=True) == files(fallen[0], int8=True)
    open_bundle(tmp_path / "bundle")


def test_what_an_export_is_refused_for_counts_before_pixels(
    shallow: Path, fallen: tuple[Path, ParityReport], tmp_path: Path
) -> None:
    opened = Checkpoint.open(shallow)
    reference = TorchReference(opened.net, opened.card)
    proof = Proof(reference, None, Reading(), max_iou_drop=0.5)
    repair = Repair(proof, lambda: open_bundle(fallen[0]), str, lambda path: None, None)

    def way(drop: float, agreement: float, floats: int = 0) -> Way:
        stages = (replace(fallen[1].candidate, drop=drop, agreement=agreement),)
        fallbacks = fallen[1].fallbacks[:1] * floats
        parity = replace(fallen[1], stages=stages, fallbacks=fallbacks)
        return Way("", (parity, []), tmp_path, tmp_path)

    ranked = [
        way(0.4, 0.995),
        way(0.1, 0.998, floats=1),  # keeps more, with more in float
        way(0.4, 0.98),
        way(0.3, 0.96),
        way(0.6, 0.999, floats=1),
    ]
    ranks = [repair._rank(each) for each in ranked]
    assert ranks == sorted(set(ranks))


def test_nothing_is_trained_if_calibration_holds_the_budget(
    shallow: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Int8Training, "run")
    said: list[str] = []
    options = ExportOptions(
        "unetpp", str(shallow), "int8", data=data, max_iou_drop=20, qat_epochs=3
    )
    report = export_bundle(tmp_path / "bundle", options, report=said.append)
    assert said[-1] == "INT8 holds its budget as calibrated: no training"
    assert report.attempts == ()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_what_cannot_be_trained_on_is_refused_at_once(
    shallow: Path, data: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    options = ExportOptions("unetpp", str(shallow), "int8", data=data, qat_epochs=2)
    images = replace(options, data=data / "val" / "images")
    with pytest.raises(UsageError, match=r"images is no data set.*Leave --qat-epochs out"):
        export_bundle(tmp_path / "bundle", images, report=said.append)
    assert list(tmp_path.iterdir()) == []
    parts = {"net": {}, "optimizer": {}, "schedule": {}, "losses": [], "epoch": 1}
    torch.save({**parts, "of": {"images": [], "epochs": 3}}, tmp_path / "bundle.qat.pt")
    with pytest.raises(CheckpointError, match=r"bundle\.qat\.pt is of .* images and epochs\."):
        export_bundle(tmp_path / "bundle", options, report=said.append)
    assert said == []
    assert [path.name for path in tmp_path.iterdir()] == ["bundle.qat.pt"]


class Waves(nn.Sequential):
    """A net with an operator that `TorchGraph` has not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(super().forward(x))


def test_a_net_that_cannot_be_trained_is_refused_before_it_is_calibrated(
    data: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    with pytest.raises(ExportError, match=r"the graph has Sin in .*Leave --qat-epochs out"):
        export(
            Waves(nn.Conv2d(3, 3, 1)).eval(),
            tmp_path / "bundle",
            size=(64, 96),
            precision="int8",
            calib=data,
            data=data,
            qat_epochs=1,
            report=said.append,
        )
    assert said[-1] == "trace"
    assert list(tmp_path.iterdir()) == []
