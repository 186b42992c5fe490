"""Findings of Rockchip's compiler, on what stands in for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgeunet.exporting.lint import lint, rknn
from edgeunet.exporting.npu.rknn_toolkit import Layer, Toolkit
from support.lint_graphs import Sketch
from support.rockchip import with_toolkit

LAYERS = (
    Layer("InputOperator:image", "InputOperator", "FLOAT16", "CPU", 0),
    Layer("Conv:/stem/Conv", "ConvClip", "FLOAT16", "NPU", 9),
    Layer("Conv:/a/Conv", "Conv", "INT8", "NPU", 9),
    Layer("Conv:/b/Conv", "Conv", "FLOAT16", "CPU", 9),
    Layer("Softmax:/c", "exSoftmax", "FLOAT16", "CPU", 9),
    Layer("Resize:/d", "Resize", "FLOAT16", "NPU", 9),
)


@pytest.fixture(autouse=True)
def _toolkit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_toolkit(monkeypatch, tmp_path)


def test_layers_on_the_cpu_and_convolutions_in_float_are_found(
    monkeypatch: pytest.MonkeyPatch, int8_bundle: Path
) -> None:
    asked: list[Any] = []

    def build(self: Toolkit, graph: Path, **given: Any) -> tuple[Layer, ...]:
        asked.append((onnx.load(graph).graph.input[0].type.tensor_type.shape.dim[0], given))
        return LAYERS

    monkeypatch.setattr(Toolkit, "build", build)
    report = lint(int8_bundle / "model.int8.onnx", "rknn")
    assert [(each.severity, each.rule, each.node) for each in report.findings] == [
        ("warning", "in-float", "/stem/Conv"),
        ("error", "on-cpu", "/b/Conv"),
        ("warning", "on-cpu", "/c"),
    ]
    ((batch, given),) = asked
    assert batch.dim_value == 1
    assert given == {"soc": "rk3588", "mean": [0, 0, 0], "std": [1, 1, 1]}
    floats = lint(int8_bundle / "model.fp32.onnx", "rknn").findings
    assert [(each.severity, each.rule) for each in floats] == [
        ("error", "on-cpu"),
        ("warning", "on-cpu"),
        ("warning", "float-net"),
    ]


def test_failure_of_the_compiler_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, int8_bundle: Path
) -> None:
    monkeypatch.setenv("EDGEUNET_FAKE_RKNN", "raise")
    (found,) = lint(int8_bundle / "model.int8.onnx", "rknn").findings
    assert (found.rule, found.severity) == ("refused", "error")
    assert "ValueError: Fancy is not supported! Its log is" in found.message
    assert "--flavour" not in found.message, "which lint does not have"


@pytest.mark.parametrize(
    ("shape", "more", "message"),
    [
        ([1, 4, "height", 8], False, "Export it at one size"),
        ([1, 4, 8], False, r"shapes \[\[1, 4, 8\]\]"),
        ([1, 4, 8, 8], True, r"shapes \[\[1, 4, 8, 8\], \[1\]\]"),
    ],
)
def test_graph_that_takes_no_single_image_is_refused(
    tmp_path: Path, shape: list[Any], more: bool, message: str
) -> None:
    sketch = Sketch()
    sketch.shape = shape
    if more:
        sketch.more_inputs = {"other": [1]}
    sketch.node("Relu", ["data"])
    onnx.save(sketch.model(), tmp_path / "net.onnx")
    report = lint(tmp_path / "net.onnx", "rknn")
    (found,) = report.findings
    assert (found.rule, found.severity) == ("input", "error")
    assert re.search(message, found.message)


def test_channels_are_those_of_the_image(tmp_path: Path) -> None:
    model = Sketch().model()
    assert rknn._channels(model.graph) == 4
