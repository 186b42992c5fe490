"""All rows of a bundle: none is left out in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeunet.benchmark import entries, matrix
from edgeunet.benchmark.accuracy import Data
from edgeunet.benchmark.matrix import Plan, measure_all
from edgeunet.benchmark.peers import PEERS
from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.errors import BackendError, UsageError
from edgeunet.runtime.backends.candidates import Candidate
from edgeunet.runtime.options import LoadOptions, Tiling
from edgeunet.runtime.sources.labelled import LabelledFrame
from support.workers import HereWorker


@pytest.fixture(autouse=True)
def _no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of their own are tested in `test_worker.py`."""
    monkeypatch.setattr(matrix, "Worker", HereWorker)


@pytest.fixture(autouse=True)
def _on_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO compiles each net for a second."""
    found = entries.candidates

    def ours(bundle: Bundle, options: LoadOptions) -> list[Candidate]:
        return [each for each in found(bundle, options) if each.backend == "onnxruntime"]

    monkeypatch.setattr(entries, "candidates", ours)


def test_every_setting_has_every_row(int8_bundle: Path) -> None:
    steps: list[str] = []
    plan = Plan(batches=(1, 2), threads=(2,), budget=0.01)
    found = measure_all(open_bundle(int8_bundle), plan, report=steps.append)
    assert [(s.threads, s.batch) for s in found.settings] == [(2, 1), (2, 2)]
    for setting in found.settings:
        rows = {row.title: row for row in setting.rows}
        assert {"onnxruntime FP32", "onnxruntime FP16", "onnxruntime INT8"} <= set(rows)
        for row in setting.timed:
            assert row.p50 is not None and row.p99 is not None and row.whole_rate is not None
            assert 0 < row.p50 <= row.p99 and row.calls > 0
            assert row.agreement is not None and row.agreement > 0.98
            assert (row.start_s, row.memory_mb, row.size_mb) == (0.5, 100.0, 1.0)
        assert found.use[setting.title] in rows
        assert found.why[setting.title].startswith(f"use {found.use[setting.title]}: ")
    assert "onnxruntime INT8, 2 threads, batch 2" in steps
    assert found.data is None and found.missing == {}


def test_what_fails_is_a_row_with_its_reason(
    wrong_bundle: Path, int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measure_all(open_bundle(wrong_bundle), Plan(threads=(1,), budget=0.01))
    (setting,) = found.settings
    assert setting.timed == () and setting.rows
    assert all("golden pixels agree" in (row.problem or "") for row in setting.rows)
    assert found.use[setting.title] == ""

    def crash(*arguments: object) -> None:
        raise BackendError("its process ended by signal 11")

    monkeypatch.setattr(matrix, "Worker", crash)
    found = measure_all(open_bundle(int8_bundle), Plan(threads=(1,), budget=0.01))
    assert {row.problem for row in found.settings[0].rows} == {"its process ended by signal 11"}


def test_depths_and_tiles_are_rows_and_labels_tell_what_they_lose(depths_bundle: Path) -> None:
    bundle = open_bundle(depths_bundle)
    golden = bundle.golden()
    tall = [np.concatenate([image, image]) for image in golden.frames[:2]]
    labels = [np.concatenate([mask, mask]) for mask in golden.masks[:2]]
    pairs = zip(tall, labels, strict=True)
    data = Data("tall", tuple(LabelledFrame("", image, mask) for image, mask in pairs))
    plan = Plan(
        threads=(1,),
        options=LoadOptions(precision="fp32"),
        tiling=Tiling(overlap=0.0),
        data=data,
        budget=0.01,
    )
    found = measure_all(bundle, plan)
    rows = {r.title: r for r in found.settings[0].rows if r.name == "onnxruntime FP32"}
    assert set(rows) == {
        f"onnxruntime FP32, depth {depth}{tiles}"
        for depth in (1, 2, 3)
        for tiles in ("", ", tiles")
    }
    deepest = rows["onnxruntime FP32, depth 3"]
    assert deepest.iou_lost == 0
    assert (rows["onnxruntime FP32, depth 1"].agreement or 1) < (deepest.agreement or 0)
    assert rows["onnxruntime FP32, depth 3, tiles"].agreement == 1
    assert (rows["onnxruntime FP32, depth 3, tiles"].iou_lost or 0) < 0, "tiles see more"
    assert found.data == "tall"
    assert found.use["1 thread, batch 1"].endswith("depth 3")


def test_a_row_that_is_so_slow_that_it_runs_once_has_a_time(
    fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(calls: dict[str, Callable[[], object]], **_: object) -> dict[str, list[float]]:
        return {name: [5.0] for name, call in calls.items() if not call()}

    monkeypatch.setattr(matrix, "sampled_latencies", once)
    tall = LabelledFrame("", np.zeros((128, 96, 3), np.uint8), None)
    plan = Plan(threads=(1,), tiling=Tiling(), data=Data("tall", (tall,)))
    rows = measure_all(open_bundle(fp32_bundle), plan).settings[0].rows
    assert [row.calls for row in rows if row.tiled] == [1]
    assert all(row.p50 for row in rows)


def test_frames_that_fit_into_a_tile_are_refused(fp32_bundle: Path) -> None:
    with pytest.raises(UsageError, match=r"64x96 fit into one tile of 64x96\. Pass larger ones"):
        measure_all(open_bundle(fp32_bundle), Plan(tiling=Tiling()))
    with pytest.raises(UsageError, match="batch is 9"):
        measure_all(open_bundle(fp32_bundle), Plan(batches=(9,)))
    with pytest.raises(UsageError, match="got --dla, and no engine here takes it"):
        measure_all(open_bundle(fp32_bundle), Plan(options=LoadOptions(dla=0)))


def test_peers_take_part_or_are_named(fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer = next(peer for peer in PEERS if peer.name == "onnxruntime's quantizer")
    monkeypatch.setattr(matrix, "PEERS", (quantizer, _Absent(), _Refusing()))
    found = measure_all(open_bundle(fp32_bundle), Plan(threads=(1,), peers=True, budget=0.01))
    assert found.missing == {"absent": "not installed: pip install absent"}
    rows = {row.title: row for row in found.settings[0].rows if row.peer}
    assert set(rows) == {quantizer.label, "refusing FP32"}
    assert rows["refusing FP32"].problem == "refusing does not take the graph"
    assert (rows[quantizer.label].p50 or 0) > 0
    assert found.use["1 thread, batch 1"] != quantizer.label


class _Absent:
    name, label, precision = "absent", "absent FP32", "fp32"
    missing: str | None = "not installed: pip install absent"


class _Refusing(_Absent):
    name, label, missing = "refusing", "refusing FP32", None

    def make(self, graph: Path, images: object, folder: Path) -> Path:
        raise BackendError("refusing does not take the graph")
