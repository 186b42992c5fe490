"""Bundles with random weights: they open everywhere, and compute what the trained ones would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import write_dataset
from edgeunet.data.datasets import open_dataset
from edgeunet.tuning import sketch
from edgeunet.tuning.sketch import Sketcher, times_of
from edgeunet.tuning.space import Configuration

SMALL = Configuration((64, 96), 8, (("decoder", "light"),))


@pytest.fixture(scope="module")
def sketcher(tmp_path_factory: pytest.TempPathFactory) -> Sketcher:
    root = tmp_path_factory.mktemp("data") / "cells"
    write_dataset(root, train=1, val=1, height=64, width=96)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (72, 100, 3), np.uint8) for _ in range(2)]
    return Sketcher("mobile_unet", open_dataset(root), InputSpec(128, 96), frames)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch, "SECONDS", 0.02)


def test_sketch_is_timed_on_every_engine_and_precision(sketcher: Sketcher, tmp_path: Path) -> None:
    bundle = sketcher.draw(SMALL, tmp_path)
    assert (bundle.manifest.input.height, bundle.manifest.input.width) == (64, 96)
    assert bundle.manifest.arguments == {"width": 8, "decoder": "light"}
    times = times_of(bundle, sketcher.frames)
    assert {"onnxruntime FP32", "onnxruntime INT8", "openvino FP32", "openvino INT8"} <= set(times)
    assert "onnxruntime FP16" not in times, "auto does not time it on a CPU"
    assert all(0 < ms < 1000 for ms in times.values())
    operators = {node.op_type for node in onnx.load(bundle.model_path("int8.cpu")).graph.node}
    assert "QuantizeLinear" in operators or "QLinearConv" in operators


def test_wrong_masks_are_no_way(int8_bundle: Path, wrong_bundle: Path) -> None:
    whole, wrong = open_bundle(int8_bundle), open_bundle(wrong_bundle)
    frames = list(whole.golden().frames)
    assert {"onnxruntime FP32", "onnxruntime INT8"} <= set(times_of(whole, frames, checked=True))
    assert times_of(wrong, frames, checked=True) == {}
    assert "onnxruntime FP32" in times_of(wrong, frames)
