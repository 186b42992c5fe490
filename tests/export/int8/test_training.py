"""Training under the rounding of INT8: what it wins, what it draws, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeunet.bundle.calibration_table import CalibrationTable
from edgeunet.data.cells import snapshots, write_dataset
from edgeunet.data.fit import Fit
from edgeunet.errors import CheckpointError, DatasetError, ExportError, TrainingError, UsageError
from edgeunet.exporting.graphs.passes.graph import load
from edgeunet.exporting.graphs.trace import trace
from edgeunet.exporting.int8 import training
from edgeunet.exporting.int8.emitters import COMPARED
from edgeunet.exporting.int8.judge import Judge
from edgeunet.exporting.int8.training import ImageCrops, Int8Training, check_trainable
from edgeunet.files import sha256
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.runtime.sources.labelled import labelled_frames
from support.exports import table_of
from support.hard import TENSOR, widened


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "cells"
    write_dataset(folder, train=32, val=8, height=64, width=96, seed=5)
    return folder


@pytest.fixture(scope="module")
def opened(shallow: Path) -> Checkpoint:
    return Checkpoint.open(shallow)


@pytest.fixture(scope="module")
def case(
    opened: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, CalibrationTable]:
    """Reference graph and a table with which it loses much."""
    path = tmp_path_factory.mktemp("shallow") / "net.onnx"
    trace(opened.net, path, height=64, width=96, channels=3)
    frames = [frame.image for frame in snapshots(8, height=64, width=96, seed=4)]
    return path, widened(table_of(path, frames, opened.card.input))


def test_training_wins_back_what_calibration_loses(
    opened: Checkpoint, case: tuple[Path, CalibrationTable], data: Path, tmp_path: Path
) -> None:
    """In the graph that loses most, on frames that were not trained on."""
    reference, table = case
    samples = labelled_frames(data, classes=opened.card.classes, fit=Fit(opened.card.input))
    judge = Judge(reference, samples, opened.card.input, gate=None)
    run = Int8Training(reference, table, ImageCrops.of_dataset(data, opened.card))
    counts: list[tuple[int, int | None]] = []
    trained = tmp_path / "trained.onnx"
    learned = run.run(trained, epochs=6, count=lambda *n: counts.append(n))
    assert counts == [(step, 24) for step in range(1, 25)]
    assert np.mean(run.losses[-4:]) < 0.8 * np.mean(run.losses[:4])
    lost = []
    for source, ranges in ((reference, table), (trained, learned)):
        losses = []
        for emitter in COMPARED:
            emitter.quantize(source, tmp_path / "int8.onnx", ranges)
            losses.append(judge.loss(tmp_path / "int8.onnx", emitter.flavour).differ)
        lost.append(max(losses))
    assert lost[1] < 0.5 * lost[0]

    assert learned.graph == sha256(trained)
    assert learned.source == "test, narrowed in training"
    assert learned.ranges[TENSOR][1] < 0.9 * table.ranges[TENSOR][1]
    for name, (low, high) in learned.ranges.items():
        assert table.ranges[name][0] <= low <= high <= table.ranges[name][1], name
    before, after = (load(path).graph.initializers for path in (reference, trained))
    assert before.keys() == after.keys()
    for name, value in before.items():
        held, changed = value.const_value.numpy(), after[name].const_value.numpy()
        assert (held.ndim == 4) <= (held != changed).any(), f"{name} was not trained"


def test_an_interrupted_training_resumes_to_the_same_bits(
    opened: Checkpoint, case: tuple[Path, CalibrationTable], data: Path, tmp_path: Path
) -> None:
    """Interrupted in the middle of an epoch. And what has ended gives the same once more."""
    crops = ImageCrops.of_dataset(data, opened.card)
    crops.files = crops.files[:16]
    state = tmp_path / "state.pt"

    def interrupted(done: int, total: int | None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    whole = Int8Training(*case, crops)
    tables = [whole.run(tmp_path / "whole", epochs=2)]
    with pytest.raises(KeyboardInterrupt):
        Int8Training(*case, crops).run(tmp_path / "never", epochs=2, state=state, count=interrupted)
    for expected in ([3, 4], []):
        steps: list[int] = []
        again = Int8Training(*case, crops)
        found = tmp_path / "resumed"
        tables.append(
            again.run(found, epochs=2, state=state, count=lambda done, _: steps.append(done))  # noqa: B023
        )
        assert steps == expected
        assert again.losses == whole.losses
        assert found.read_bytes() == (tmp_path / "whole").read_bytes()
    assert tables[0] == tables[1] == tables[2]
    assert not (tmp_path / "never").exists()


def test_a_damaged_state_is_refused(
    opened: Checkpoint, case: tuple[Path, CalibrationTable], data: Path, tmp_path: Path
) -> None:
    state, run = (
        tmp_path / "state.pt",
        Int8Training(*case, ImageCrops.of_dataset(data, opened.card)),
    )
    state.write_bytes(b"not a state")
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        run.run(tmp_path / "trained.onnx", epochs=1, state=state)
    torch.save({"net": {}}, state)
    with pytest.raises(CheckpointError, match=r"state\.pt lacks epoch, losses, of, optimizer"):
        run.run(tmp_path / "trained.onnx", epochs=1, state=state)
    assert not (tmp_path / "trained.onnx").exists()


def test_a_state_of_another_training_is_refused_by_what_differs(
    opened: Checkpoint, case: tuple[Path, CalibrationTable], data: Path, tmp_path: Path
) -> None:
    reference, table = case
    state, crops = tmp_path / "state.pt", ImageCrops.of_dataset(data, opened.card)
    crops.files = crops.files[:8]

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Int8Training(*case, crops).run(tmp_path / "no.onnx", epochs=2, state=state, count=stop)
    Int8Training(*case, crops).run(tmp_path / "first.onnx", epochs=1)
    kept = state.read_bytes()
    wider = {name: (2 * low, 2 * high) for name, (low, high) in table.ranges.items()}
    others = (
        ("epochs", Int8Training(*case, crops), 3),
        ("images", Int8Training(*case, replace(crops, files=crops.files[1:])), 2),
        ("calibration", Int8Training(reference, replace(table, ranges=wider), crops), 2),
        ("weights", Int8Training(tmp_path / "first.onnx", table, crops), 2),
    )
    for name, run, epochs in others:
        with pytest.raises(CheckpointError, match=rf"state\.pt is of .* other {name}\. Export"):
            run.run(tmp_path / "other.onnx", epochs=epochs, state=state)
    assert state.read_bytes() == kept
    assert not (tmp_path / "other.onnx").exists()


def test_a_training_that_has_ended_is_in_nobodys_way(
    opened: Checkpoint, case: tuple[Path, CalibrationTable], data: Path, tmp_path: Path
) -> None:
    """The graphs of one epoch lost too much: the error says to train for more."""
    state, crops = tmp_path / "state.pt", ImageCrops.of_dataset(data, opened.card)
    crops.files = crops.files[:8]
    Int8Training(*case, crops).run(tmp_path / "first.onnx", epochs=1, state=state)
    for name, given in (("fresh", None), ("beside", state)):
        Int8Training(*case, crops).run(tmp_path / name, epochs=2, state=given)
    assert (tmp_path / "fresh").read_bytes() == (tmp_path / "beside").read_bytes()
    again = Int8Training(*case, crops)
    again.run(tmp_path / "again", epochs=2, state=state, count=lambda *_: pytest.fail("trained"))
    assert (tmp_path / "fresh").read_bytes() == (tmp_path / "again").read_bytes()


def test_crops_are_the_nets_input_and_change_from_epoch_to_epoch(
    opened: Checkpoint, data: Path
) -> None:
    crops = ImageCrops.of_dataset(data, opened.card)
    assert len(crops) == 32
    assert {path.parts[-3] for path in crops.files} == {"train"}
    first = crops[3]
    assert first.shape == (3, 64, 96)
    assert first.dtype == torch.float32
    assert torch.equal(first, crops[3])
    crops.epoch = 1
    assert not torch.equal(first, crops[3])


def test_a_loss_that_is_not_finite_ends_the_training(
    opened: Checkpoint,
    case: tuple[Path, CalibrationTable],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = training._loss
    monkeypatch.setattr(training, "_loss", lambda *given: real(*given) * torch.nan)
    run = Int8Training(*case, ImageCrops.of_dataset(data, opened.card))
    with pytest.raises(TrainingError, match=r"is nan after 0 of 8 steps.*Leave --qat-epochs out"):
        run.run(tmp_path / "trained.onnx", epochs=2)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_data_set_of_the_net_is_refused(
    opened: Checkpoint, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"images is no data set.*train split"):
        ImageCrops.of_dataset(data / "val" / "images", opened.card)
    card = replace(opened.card, classes=("a", "b"), palette=((0, 0, 0), (1, 1, 1)))
    with pytest.raises(DatasetError, match="has 3 classes, the net has 2"):
        ImageCrops.of_dataset(data, card)


def test_a_graph_that_pytorch_cannot_compute_is_refused_by_name(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Sin", ["image"], ["logits"], "wave")],
        "graph",
        [value("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [value("logits", TensorProto.FLOAT, ["batch", 3, 8, 8])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ExportError, match=r"has Sin in wave.*Leave --qat-epochs out"):
        check_trainable(tmp_path / "net.onnx")


def test_a_form_that_pytorch_does_not_take_is_refused_by_name(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    sizes = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    node = helper.make_node("Resize", ["image", "", "scales"], ["logits"], "up", mode="cubic")
    graph = helper.make_graph(
        [node],
        "graph",
        [value("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [value("logits", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [sizes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ExportError, match=r"Resize in up has .*Leave --qat-epochs out"):
        check_trainable(tmp_path / "net.onnx")
