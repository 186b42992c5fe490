"""The table: which method it takes, how it is stored, re-used, refused and shown."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import Result

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.calibration_table import (
    TABLE_NAME,
    CalibrationTable,
    Method,
    MethodScore,
    read_table,
)
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import snapshots
from edgeunet.errors import CalibrationError, DatasetError
from edgeunet.exporting.int8.calibration.calibrate import (
    best,
    calibrate,
    check_table,
    labelled_samples,
    score_methods,
)
from edgeunet.exporting.int8.calibration.frames import FrameSet, drawn_selection
from edgeunet.exporting.int8.calibration.ranges import METHODS
from edgeunet.exporting.int8.judge import Judge, MaskNet
from edgeunet.exporting.int8.quantize import quantize_for_cpu
from edgeunet.files import sha256
from edgeunet.metrics import Mask
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.sinks import VideoWriter
from support.commands import call
from support.int8 import TABLE
from support.media import write_png


def score(method: Method, miou: float | None, agreement: float) -> MethodScore:
    return MethodScore(method, miou, agreement)


# The best


def test_highest_miou_wins_over_agreement() -> None:
    assert best([score("percentile", 70, 0.999), score("minmax", 71, 0.99)]) == "minmax"


def test_equal_miou_is_decided_by_agreement() -> None:
    scores = [score("percentile", 70.08, 0.98), score("minmax", 70, 0.99)]
    assert best(scores) == best(scores[::-1]) == "minmax"


def test_without_labels_agreement_decides() -> None:
    assert best([score("percentile", None, 0.98), score("entropy", None, 0.99)]) == "entropy"


def test_what_is_equal_goes_by_a_fixed_order() -> None:
    scores = [score(method, 70, 0.99) for method in ("minmax", "entropy", "percentile", "mse")]
    assert best(scores) == "mse"
    assert best(scores[:3]) == "percentile"
    assert best(scores[:2]) == "entropy"


# Measured


def judge_of(graph: Path, frames: FrameSet) -> Judge:
    return Judge(graph, labelled_samples(frames), InputSpec(64, 96), gate=None)


@pytest.fixture(scope="module")
def masks() -> list[Mask]:
    return [frame.mask for frame in snapshots(36, height=64, width=96, seed=4)]


@pytest.fixture(scope="module")
def drawn(masks: list[Mask]) -> FrameSet:
    frames = tuple(frame.image for frame in snapshots(36, height=64, width=96, seed=4))
    return FrameSet("cells", tuple(range(36)), frames, masks.__getitem__)


def test_worse_ranges_measure_worse_and_the_best_graphs_are_kept(
    int8_bundle: Path, drawn: FrameSet, tmp_path: Path
) -> None:
    bundle = open_bundle(int8_bundle)
    good = read_table(int8_bundle / TABLE_NAME)
    narrow = {name: (low / 20, high / 20) for name, (low, high) in good.ranges.items()}
    tables: dict[Method, CalibrationTable] = {
        "percentile": good,
        "minmax": replace(good, ranges=narrow),
    }
    graph = bundle.model_path("fp32")
    held_out = drawn_selection(drawn).held_out
    scores = score_methods(judge_of(graph, held_out), tables, tmp_path)
    by_method = {found.method: found for found in scores}
    assert by_method["percentile"].agreement > 0.95
    assert by_method["minmax"].agreement < by_method["percentile"].agreement - 0.05
    assert all(found.miou is not None and 0 <= found.miou <= 100 for found in scores)
    assert best(scores) == "percentile"
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    names = ("model.int8.cpu.onnx", "model.int8.onnx")
    assert kept == {name: (int8_bundle / name).read_bytes() for name in names}


def test_a_method_is_as_good_as_its_worst_graph(
    int8_bundle: Path, drawn: FrameSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entropy suits only the CPU, and loses against what suits both a little less."""
    judge = judge_of(int8_bundle / "model.fp32.onnx", drawn_selection(drawn).held_out)
    results = iter([1.0, 0.4, 0.97, 0.96])
    kinds: list[str] = []

    def tally(path: Path, flavour: str) -> SimpleNamespace:
        kinds.append(flavour)
        return SimpleNamespace(miou=None, agreement=next(results))

    monkeypatch.setattr(judge, "tally", tally)
    table = read_table(int8_bundle / TABLE_NAME)
    scores = score_methods(judge, {"entropy": table, "minmax": table})
    assert kinds == ["int8.cpu", "int8"] * 2
    assert [found.agreement for found in scores] == [0.4, 0.96]
    assert best(scores) == "minmax"


def test_what_ranges_win_by_luck_does_not_count(
    int8_bundle: Path, drawn: FrameSet, tmp_path: Path
) -> None:
    bundle = open_bundle(int8_bundle)
    good, spec = read_table(int8_bundle / TABLE_NAME), bundle.manifest.input
    ranges = {name: (low / 20, high / 20) for name, (low, high) in good.ranges.items()}
    narrow = replace(good, ranges=ranges)
    graph, path = bundle.model_path("fp32"), tmp_path / "narrow.onnx"
    quantize_for_cpu(graph, path, narrow)
    net, prepare = MaskNet(path, spec, gate=None, flavour="int8.cpu"), Preprocessor(spec)
    right = [net(prepare([frame]), (64, 96)) for frame in drawn.frames]
    held_out = drawn_selection(replace(drawn, mask=right.__getitem__)).held_out
    tables: dict[Method, CalibrationTable] = {"percentile": good, "minmax": narrow}
    scores = score_methods(judge_of(graph, held_out), tables)
    assert best(scores) == "percentile"
    assert scores[1].miou is None  # the labels hold one class, which any constant net gives


def test_frames_without_labels_are_compared_by_agreement_alone(
    int8_bundle: Path, drawn: FrameSet
) -> None:
    table = read_table(int8_bundle / TABLE_NAME)
    held_out = drawn_selection(replace(drawn, mask=None)).held_out
    judge = judge_of(int8_bundle / "model.fp32.onnx", held_out)
    (found,) = score_methods(judge, {"entropy": table})
    assert judge.left_out == ()
    assert found.miou is None
    assert found.agreement > 0.5


def test_mask_of_another_size_is_refused(
    int8_bundle: Path, drawn: FrameSet, masks: list[Mask]
) -> None:
    cut = replace(drawn, mask=lambda number: masks[number][:32])
    with pytest.raises(DatasetError, match="frame 0 of cells is 64x96, its mask 32x96"):
        judge_of(int8_bundle / "model.fp32.onnx", cut)


def test_classes_without_a_label_are_named(
    int8_bundle: Path, drawn: FrameSet, masks: list[Mask], monkeypatch: pytest.MonkeyPatch
) -> None:
    # `test_bundle_holds_the_table_with_what_was_tried` holds that all are tried.
    monkeypatch.setattr("edgeunet.exporting.int8.calibration.calibrate.METHODS", ("mse",))
    card = Checkpoint.open(int8_bundle / "checkpoint.safetensors").card
    rare = replace(drawn, mask=lambda number: np.where(masks[number] == 2, 1, masks[number]))
    selection = drawn_selection(rare)
    few = replace(selection.chosen, numbers=(0, 1), frames=drawn.frames[:2])
    graph = int8_bundle / "model.fp32.onnx"
    table = calibrate(graph, replace(selection, chosen=few), card, method=None)
    assert table.left_out == (card.classes[2],)
    assert [score.miou is not None for score in table.scores] == [True]


def test_bundle_holds_the_table_with_what_was_tried(int8_bundle: Path) -> None:
    table = read_table(int8_bundle / TABLE_NAME)
    assert table.graph == sha256(int8_bundle / "model.fp32.onnx")
    assert (table.model, table.source, table.frames) == ("mobile_unet", "procedural cells", 32)
    assert {found.method for found in table.scores} == set(METHODS)
    assert table.method == best(table.scores)
    assert table.compared_on == "8 labelled frames of procedural cells, held out"
    assert TABLE_NAME in open_bundle(int8_bundle).manifest.files


def test_method_asked_for_is_taken_without_comparing(int8_bundle: Path, drawn: FrameSet) -> None:
    card = Checkpoint.open(int8_bundle / "checkpoint.safetensors").card
    few = replace(drawn, numbers=drawn.numbers[:4], frames=drawn.frames[:4])
    graph = int8_bundle / "model.fp32.onnx"
    tables = {
        method: calibrate(graph, drawn_selection(few), card, method=method) for method in METHODS
    }
    assert {name: table.method for name, table in tables.items()} == {m: m for m in tables}
    assert all(table.scores == () and table.compared_on is None for table in tables.values())
    wide, narrow = tables["minmax"].ranges, tables["percentile"].ranges
    assert all(wide[name][1] >= narrow[name][1] for name in wide)
    assert wide != narrow


# Stored


def test_table_of_another_graph_is_refused_by_name(int8_bundle: Path) -> None:
    graph = int8_bundle / "model.fp32.onnx"
    with pytest.raises(CalibrationError) as error:
        check_table(TABLE, graph, model="unetpp", path=Path("other.json"))
    assert "other.json belongs to a graph of mobile_unet, SHA-256 000000000000…" in str(error.value)
    assert f"one of unetpp, {sha256(graph)[:12]}…" in str(error.value)


def test_table_that_lost_a_range_is_refused(int8_bundle: Path) -> None:
    table = read_table(int8_bundle / TABLE_NAME)
    ranges = {name: limits for name, limits in table.ranges.items() if name != "logits"}
    with pytest.raises(CalibrationError, match="no range for logits; the file was changed"):
        check_table(
            replace(table, ranges=ranges),
            int8_bundle / "model.fp32.onnx",
            model="mobile_unet",
            path=Path("table.json"),
        )


# From the command line


def export(weights: Path, output: Path, *more: object) -> Result:
    base = ("export", "--model", "unetpp", "--weights", weights, "-o", output)
    return call(*base, "--max-iou-drop", 100, *more)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "cells.mp4"
    with VideoWriter(path, rate=Fraction(25)) as video:
        for frame in snapshots(6, height=64, width=96, seed=6):
            video.write(frame.image)
    return path


def test_video_calibrates_and_its_table_is_used_again(
    shallow: Path, clip: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    done = export(shallow, first, "--int8", "--calib", clip, "--calib-method", "entropy")
    assert done.exit_code == 0, done.output
    shown = call("inspect", first).output
    assert "calibration entropy on 5 frames of cells.mp4" in shown
    table = shutil.copy(first / TABLE_NAME, tmp_path / "table.json")
    done = export(shallow, second, "--int8", "--calib-table", table)
    assert done.exit_code == 0, done.output
    for name in (
        TABLE_NAME,
        "model.int8.cpu.onnx",
        "model.int8.openvino.onnx",
        "model.int8.qnn.onnx",
    ):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    done = export(shallow, tmp_path / "third", "--int8", "--calib-table", table, "--size", "96x128")
    assert done.exit_code == 1
    assert "table.json belongs to a graph of unetpp" in done.output
    assert not (tmp_path / "third").exists()


def test_unfit_frames_are_refused_before_anything_is_made(shallow: Path, tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    for index in range(3):
        frame = np.random.default_rng(index).integers(0, 256, (64, 96, 3), np.uint8)
        write_png(tmp_path / "noise" / f"{index}.png", frame)
    done = export(shallow, tmp_path / "bundle", "--int8", "--calib", tmp_path / "noise")
    assert done.exit_code == 1
    assert "the frames of noise are noise" in done.output
    assert "trace" not in done.output
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ([], "got --calib-table without --int8"),
        (["--int8", "--calib-method", "minmax"], "a table has its method already"),
    ],
)
def test_table_with_what_contradicts_it_is_wrong_usage(
    shallow: Path, tmp_path: Path, more: list[str], reason: str
) -> None:
    done = export(shallow, tmp_path / "bundle", "--calib-table", tmp_path / "t.json", *more)
    assert done.exit_code == 2
    assert reason in done.output


def test_bundle_without_int8_shows_no_calibration(fp32_bundle: Path) -> None:
    assert "calibration none" in call("inspect", fp32_bundle).output
