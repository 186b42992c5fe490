"""Which nodes run in INT8."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
import pytest

from edgeunet.bundle.manifest import flavour_file
from support.int8 import graph


def test_onnx_runtime_runs_all_convolutions_but_the_ends_in_int8(
    int8_bundle: Path, tmp_path: Path
) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    path = int8_bundle / flavour_file("int8.cpu")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    ran = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    convs = Counter(node.op_type for node in graph(int8_bundle, "fp32").node)["Conv"]
    assert ran["QLinearConv"] == convs - 2
    assert ran["Clip"] == 0, "ReLU6 folds into the ranges and the first convolution"
    assert ran["QuantizeLinear"] == 1, "behind the first convolution only"
    assert ran["DequantizeLinear"] <= 3, "input, weights and bias of the last convolution only"


@pytest.mark.parametrize("flavour", ["int8", "int8.fp16", "int8.cpu"])
def test_nothing_stands_between_a_convolution_and_its_activation(
    int8_bundle: Path, flavour: str
) -> None:
    found = graph(int8_bundle, flavour)
    producer = {name: node for node in found.node for name in node.output}
    clips = [node for node in found.node if node.op_type == "Clip"]
    assert clips
    assert {producer[clip.input[0]].op_type for clip in clips} == {"Conv"}


@pytest.mark.parametrize("flavour", ["int8", "int8.fp16", "int8.cpu"])
def test_the_logits_are_not_rounded_to_256_levels(int8_bundle: Path, flavour: str) -> None:
    found = graph(int8_bundle, flavour)
    producer = {name: node for node in found.node for name in node.output}
    last = producer["logits"]
    while last.op_type in ("Add", "Cast", "Reshape", "Transpose"):
        last = producer[last.input[0]]
    assert last.op_type == ("MatMul" if flavour == "int8.cpu" else "Conv")
