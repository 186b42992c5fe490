"""Target `deepstream`: the graph by nvinfer's settings, and the frames that nvinfer cannot prepare.

DeepStream needs a GPU. What its nvinfer does around the graph is written down a second time in
`examples/deepstream/`; TensorRT-RTX builds the graph here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgeunet
from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.images import read_ids
from edgeunet.errors import ExportError, ParityError, UsageError
from edgeunet.exporting.deploy import DeployOptions, deepstream, deploy
from edgeunet.exporting.deploy.deepstream import (
    Nvinfer,
    Preparation,
    check_input,
    label_of,
    to_scores,
)
from edgeunet.files import write_bytes
from edgeunet.runtime.backends.ort import OrtNet
from edgeunet.runtime.backends.postprocess import open_classes
from edgeunet.runtime.sinks.pictures import encode_picture
from support.commands import ROOT, run_quietly
from support.pixels import Small, noise
from support.small_bundle import names
from support.trt_builds import Build

FILES = [
    "README.md",
    "config_infer_primary.txt",
    "deepstream_app.txt",
    "deployment.json",
    "labels.txt",
    "model.onnx",
]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_example_gives_the_runtimes_mask(int8_bundle: Path, tmp_path: Path, precision: str) -> None:
    output = tmp_path / "out"
    chosen = None if precision == "int8" else DeployOptions(flavour="fp16")
    assert deploy(int8_bundle, "deepstream", output, chosen) == (precision,)
    calibration = ["explicit.cache"] if precision == "int8" else []
    assert names(output) == sorted([*FILES, *calibration])
    settings = (output / "config_infer_primary.txt").read_text().splitlines()
    assert f"network-mode={1 if precision == 'int8' else 2}" in settings
    assert f"model-engine-file=model.onnx_b1_gpu0_{precision}.engine" in settings
    frame = open_bundle(int8_bundle).golden().frames[0]
    write_bytes(tmp_path / "frame.png", encode_picture(frame, ".png"))
    example = ROOT / "examples/deepstream/preview.py"
    said = run_quietly(tmp_path, sys.executable, example, "out", "frame.png", "mask.png")
    assert said.startswith("background: ")
    with edgeunet.load(int8_bundle, precision="fp32") as segmenter:
        expected = segmenter([frame]).masks[0]
    agreement = (read_ids(tmp_path / "mask.png") == expected).mean()
    assert agreement >= (0.97 if precision == "int8" else 0.999)


SPECS = {
    "three stds": InputSpec(24, 40, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.4)),
    "one std": InputSpec(24, 40, mean=(0.4, 0.5, 0.6), std=(0.5, 0.5, 0.5)),
    "bgr, levels": InputSpec(24, 32, channels=("blue", "green", "red"), levels=(16, 235)),
    "gray": InputSpec(24, 32, channels=("gray",)),
    "two channels": InputSpec(24, 32, channels=("green", "red"), mean=(0.1, 0), std=(0.2, 1)),
    "black padding": InputSpec(30, 44, resize="pad_centre", fill=0),
}


@pytest.mark.parametrize("name", SPECS)
def test_scores_by_nvinfers_arithmetic_are_the_runtimes_masks(name: str) -> None:
    spec = SPECS[name]
    check_input(spec)
    small, prepared = Small.of(spec, 4, (0.0, 0.5, 0.5, 1.0), stride=2), Preparation.of(spec)
    model = ir.from_proto(onnx.shape_inference.infer_shapes(small.model))
    before = [node.op_type for node in model.graph]
    graph = ir.to_proto(to_scores(model, small.manifest, "fp32", prepared))
    onnx.checker.check_model(graph, full_check=True)
    added = {node.op_type for node in graph.graph.node} - set(before)
    assert ("Mul" in added) == prepared.raw, "the first convolution has the factors"
    assert 0.5 < prepared.scale * np.mean(spec.std) * np.ptp(spec.levels) < 2 or prepared.raw
    nvinfer = Nvinfer(
        OrtNet(graph.SerializeToString()),
        np.float32(prepared.scale),
        np.array(prepared.offsets or (0, 0, 0), np.float32),
        slice(None, None, -1 if prepared.bgr else 1),
        np.float32(0),
    )
    frames = noise(spec, count=3)
    found, outputs = nvinfer(np.stack(frames)), small.outputs(frames)
    assert np.count_nonzero(found != small.finish()(*outputs, frames[0].shape[:2])) <= 3
    assert outputs.presence is not None
    opened = open_classes(outputs.presence, small.manifest.gate)
    assert not opened.all()
    for mask, kept in zip(found, opened, strict=True):
        assert set(np.unique(mask)) <= set(np.flatnonzero(kept))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (InputSpec(16, 16, channels=("red", "nir"), mean=(0, 0), std=(1, 1)), "uint8 of red, nir"),
        (InputSpec(16, 16, channels=("gray",), depth="uint16"), "frames are uint16 of gray"),
        (InputSpec(16, 16, filter="pillow"), "by the filter pillow"),
        (InputSpec(16, 16, resize="pad"), "padded with their mean colour; nvinfer pads with black"),
        (InputSpec(16, 16, resize="pad", fill=114), "padded with the value 114"),
    ],
)
def test_frames_that_nvinfer_cannot_prepare_are_refused(spec: InputSpec, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_input(spec)


def test_settings_say_how_frames_are_padded(fp32_bundle: Path, tmp_path: Path) -> None:
    """And other masks than the runtime's, or a graph that breaks a rule, leave nothing behind."""
    deploy(fp32_bundle, "deepstream", tmp_path / "out")
    settings = (tmp_path / "out" / "config_infer_primary.txt").read_text()
    assert "maintain-aspect-ratio=0\n" in settings
    assert "symmetric-padding" not in settings
    (tmp_path / "out" / "model.onnx_b1_gpu0_fp16.engine").touch()
    deploy(fp32_bundle, "deepstream", tmp_path / "out", force=True)  # nvinfer's own is replaced
    (tmp_path / "out" / "mine.engine").touch()
    with pytest.raises(UsageError, match=r"holds 'mine\.engine'"):
        deploy(fp32_bundle, "deepstream", tmp_path / "out", force=True)


def test_what_is_wrong_is_refused_and_nothing_is_left(
    fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Nvinfer, "__call__", lambda self, frames: np.zeros(frames.shape[:3], int) - 1)
        with pytest.raises(ParityError, match=r"model\.onnx with config_infer_primary\.txt gives"):
            deploy(fp32_bundle, "deepstream", tmp_path / "out")
    monkeypatch.setattr(deepstream, "_BUILDERS", ("ort-cpu", "trt8.6"))
    monkeypatch.setattr("edgeunet.exporting.lint.operators._NEWEST_OPSET_8", 11)
    with pytest.raises(ExportError, match=r"trt8\.6 does not take the graph, by the rule opset"):
        deploy(fp32_bundle, "deepstream", tmp_path / "out")
    assert names(tmp_path) == []


@given(st.text(max_size=12))
def test_label_is_one_line_with_something_in_it(name: str) -> None:
    label = label_of(name)
    assert label
    assert label.splitlines() == [label]
    assert ";" not in label


def test_tensorrt_rtx_builds_the_graph(gated_bundle: Path, tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx_bindings", reason="needs the extra [rtx]")
    deploy(gated_bundle, "deepstream", tmp_path / "out", DeployOptions(flavour="fp32"))
    build = Build(trt, (tmp_path / "out" / "model.onnx").read_bytes())
    assert build.parsed, build.log.errors
    profile = build.builder.create_optimization_profile()
    spec = open_bundle(gated_bundle).manifest.input
    shapes = [(batch, 3, spec.height, spec.width) for batch in (1, 2, 4)]
    profile.set_shape("planes", *shapes)
    build.config.add_optimization_profile(profile)
    assert build.run() is not None, build.log.errors
