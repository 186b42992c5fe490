"""Parity: the numbers match the masks, and a broken stage is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from onnx import numpy_helper
from torch import nn

import edgeunet
from edgeunet.bundle.bundle import CHECKPOINT_NAME, open_bundle
from edgeunet.bundle.manifest import FLAVOURS, InputSpec, flavour_file
from edgeunet.bundle.steps import ImageStatistics, Window
from edgeunet.data.cells import snapshots, write_dataset
from edgeunet.data.fit import Fit
from edgeunet.errors import DatasetError
from edgeunet.files import sha256
from edgeunet.metrics import confusion_matrix, mean_iou
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.models.reference import reference_mask
from edgeunet.parity import ParityReport, golden_samples, measure
from edgeunet.runtime.segmenter import load
from edgeunet.runtime.sources.labelled import labelled_frames
from support.exports import edited_bundle
from support.sliding import sliding_logits


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cells") / "data"
    write_dataset(path, train=1, val=4, height=256, width=320, seed=5)
    return path


def compare(
    bundle: Path, data: Path, *, frames: int | None = None, **arguments: Any
) -> ParityReport:
    opened = open_bundle(bundle)
    samples = labelled_frames(data, classes=opened.manifest.classes, fit=Fit(opened.manifest.input))
    return measure(opened, islice(samples, frames), data="cells", **arguments)[0]


@pytest.fixture(scope="module")
def compared(cells_bundle: Path, cells: Path) -> ParityReport:
    return compare(cells_bundle, cells)


def test_numbers_match_the_masks(cells_bundle: Path, cells: Path, compared: ParityReport) -> None:
    report = compared
    opened = Checkpoint.open(cells_bundle / CHECKPOINT_NAME)
    net, card = opened.net, opened.card
    expected = np.zeros((3, 3), np.int64)
    found = expected.copy()
    equal = []
    with load(cells_bundle) as segmenter:
        for sample in labelled_frames(cells, classes=card.classes, fit=Fit(card.input)):
            reference = reference_mask(net, sample.image, card.input)
            mask = segmenter([sample.image]).masks[0]
            assert sample.labels is not None
            expected += confusion_matrix(sample.labels, reference, num_classes=3)
            found += confusion_matrix(sample.labels, mask, num_classes=3)
            equal.append(np.mean(reference == mask))
    stage = report.candidate
    assert stage.name == "int8"
    assert stage.agreement == pytest.approx(np.mean(equal))
    assert report.reference_miou == pytest.approx(100 * mean_iou(expected), abs=1e-3)
    assert stage.drop == pytest.approx(100 * (mean_iou(expected) - mean_iou(found)), abs=2e-3)
    assert report.worst[0].agreement == pytest.approx(min(equal), abs=1e-6)
    assert report.labelled


def test_cells_bundle_has_all_stages_within_tolerance(compared: ParityReport) -> None:
    names = [stage.name for stage in compared.stages]
    assert names == ["preprocessing", "postprocessing", "fp32", "fp16", "int8"]
    assert compared.first_failure is None, compared.table()


def test_graphs_for_other_engines_are_simulated_on_request(cells_bundle: Path, cells: Path) -> None:
    report = compare(cells_bundle, cells, frames=3, simulate=True)
    names = [stage.name for stage in report.stages]
    assert names[3:] == ["fp16", "trt int8", "trt int8.fp16", "openvino int8", "qnn int8", "int8"]
    assert [stage.name for stage in report.deployed] == names[4:]
    assert report.first_failure is None, report.table()
    _, signed, halves, openvino, qnn, unsigned = (stage.logit_mean for stage in report.stages[3:])
    assert len({signed, openvino, qnn, unsigned}) == 4
    assert halves == pytest.approx(signed, rel=0.2)


def test_stages_of_engines_lose_the_rounding_of_their_ends(
    int8_bundle: Path, tmp_path: Path
) -> None:
    """Where every graph is the FP32 one, nothing else is lost."""
    copy = tmp_path / "copy"
    shutil.copytree(int8_bundle, copy)
    for flavour in FLAVOURS["int8"]:
        shutil.copy(int8_bundle / flavour_file("fp32"), copy / flavour_file(flavour))
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {name: sha256(copy / name) for name in manifest["files"]}
    path.write_text(json.dumps(manifest))
    bundle = open_bundle(copy)
    report, _ = measure(bundle, golden_samples(bundle), data="golden", simulate=True)
    rounded = {stage.name for stage in report.stages if stage.logit_max > 1e-4}
    assert rounded == {"fp16", "trt int8", "trt int8.fp16"}


def _swap_colours(copy: Path) -> str:
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["input"]["mean"] = [0.1, 0.9, 0.1]
    path.write_text(json.dumps(manifest))
    return path.name


def _scale_weights(flavour: str) -> Callable[[Path], str]:
    def edit(copy: Path) -> str:
        name = flavour_file(flavour)  # type: ignore[arg-type]
        model = onnx.load(copy / name)
        for tensor in (each for each in model.graph.initializer if len(each.dims) == 4):
            values = numpy_helper.to_array(tensor)
            half = (values // 2).astype(values.dtype)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
        onnx.save(model, copy / name)
        return name

    return edit


@pytest.mark.parametrize(
    ("edit", "stage"),
    [
        (_swap_colours, "preprocessing"),
        (_scale_weights("fp32"), "fp32"),
        (_scale_weights("fp16"), "fp16"),
        (_scale_weights("int8"), "trt int8"),
        (_scale_weights("int8.fp16"), "trt int8.fp16"),
        (_scale_weights("int8.openvino"), "openvino int8"),
        (_scale_weights("int8.qnn"), "qnn int8"),
        (_scale_weights("int8.cpu"), "int8"),
    ],
)
def test_the_first_broken_stage_is_named(
    cells_bundle: Path, cells: Path, tmp_path: Path, edit: Callable[[Path], str], stage: str
) -> None:
    broken = edited_bundle(cells_bundle, tmp_path, edit)
    report = compare(broken, cells, frames=1, simulate=True)
    assert report.first_failure == stage
    assert "OUT OF TOLERANCE" in report.table()
    assert report.to_json()["first_failure"] == stage


def test_without_labels_the_masks_of_the_reference_serve_as_labels(fp32_bundle: Path) -> None:
    bundle = open_bundle(fp32_bundle)
    report, worst = measure(bundle, golden_samples(bundle), data="golden")
    assert not report.labelled
    assert report.reference_miou is None
    assert {(stage.miou, stage.drop) for stage in report.stages} == {(None, None)}
    assert report.candidate.name == "fp32"
    assert len(worst) == len(bundle.golden().frames)


def test_pytorch_backend_agrees_with_itself(fp32_bundle: Path, cells: Path) -> None:
    report = compare(fp32_bundle, cells, backend="pytorch")
    assert report.backend == "pytorch"
    assert report.first_failure is None


def test_data_of_another_class_count_is_refused(fp32_bundle: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=1, val=1, height=64, width=64)
    info = json.loads((tmp_path / "data" / "dataset.json").read_text())
    info["classes"].append("debris")
    info["palette"].append([1, 2, 3])
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(DatasetError, match="4 classes, the bundle has 3"):
        compare(fp32_bundle, tmp_path / "data")


def test_no_frame_is_an_error(fp32_bundle: Path) -> None:
    with pytest.raises(DatasetError, match="no frame"):
        measure(open_bundle(fp32_bundle), [], data="nothing")


def test_labels_of_one_class_are_refused_and_missing_ones_are_named(
    fp32_bundle: Path, cells: Path
) -> None:
    opened = open_bundle(fp32_bundle)
    samples = list(
        labelled_frames(cells, classes=opened.manifest.classes, fit=Fit(opened.manifest.input))
    )
    sample = next(sample for sample in samples if sample.labels is not None)
    assert sample.labels is not None
    empty = replace(sample, labels=np.zeros_like(sample.labels))
    with pytest.raises(DatasetError, match="labels in cells hold 'background' alone; expected two"):
        measure(opened, [empty], data="cells")
    labels = np.zeros_like(sample.labels)
    labels[:9] = 1
    report, _ = measure(opened, [replace(sample, labels=labels)], data="cells")
    assert report.left_out == ("dividing",)
    assert "mIoU over 2 of 3 classes: the labels lack dividing" in report.table()


# Windows


def test_net_on_windows_gives_the_masks_of_nnunets_predictor(tmp_path: Path) -> None:
    """Half of the frames have a black border, which nnU-Net crops before it measures them."""
    torch.manual_seed(0)
    net = PlainConvUNet(
        1, 2, [4, 8], nn.Conv2d, 3, [1, 2], [1, 1], 3, [1], norm_op=nn.InstanceNorm2d,
        norm_op_kwargs={"affine": True}, nonlin=nn.LeakyReLU, deep_supervision=False,
    ).eval()  # fmt: skip
    frames = []
    (tmp_path / "frames").mkdir()
    for index, drawn in enumerate(snapshots(6, height=70, width=90, seed=1)):
        frame = cv2.cvtColor(drawn.image, cv2.COLOR_RGB2GRAY)
        if index % 2:
            frame[:12] = frame[:, -20:] = 0
        cv2.imwrite(str(tmp_path / "frames" / f"{index}.png"), frame)
        frames.append(frame)
    spec = InputSpec(
        32, 48, channels=("gray",), statistics=ImageStatistics(), window=Window(crop=True)
    )
    report = edgeunet.export(
        net, tmp_path / "bundle", input=spec, classes=("a", "b", "c"), calib=tmp_path / "frames"
    )
    assert report.first_failure is None, report.table()
    assert {stage.agreement for stage in report.stages} == {1.0}

    @torch.inference_mode()
    def infer(images: Any) -> Any:
        return net(torch.from_numpy(images).float()).numpy()

    with load(tmp_path / "bundle", "onnxruntime") as segmenter:
        assert segmenter.self_check() == 1
        for frame in frames:
            rows, columns = (np.flatnonzero(frame.any(axis)) for axis in (1, 0))
            box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            part = frame[box].astype(np.float64)
            zscored = (part - part.mean()) / max(part.std(), 1e-8)
            expected = np.zeros(frame.shape, np.uint8)
            expected[box] = sliding_logits(infer, zscored[None], (32, 48), 0.5).argmax(0)
            assert len(np.unique(expected)) == 3
            assert (segmenter([frame]).masks[0] == expected).mean() >= 0.9999
