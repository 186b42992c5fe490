"""Graphs for ONNX Runtime's INT8 kernels, and what ONNX Runtime makes of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeunet.bundle.manifest import InputSpec
from edgeunet.export.int8.quantize import quantize_for_cpu
from support.exports import table_of
from support.graphs import traced


def optimized(source: Path, folder: Path) -> list[onnx.NodeProto]:
    """Nodes that ONNX Runtime runs of the INT8 graph."""
    int8, found = folder / "int8.onnx", folder / "optimized.onnx"
    frames = [np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)]
    quantize_for_cpu(source, int8, table_of(source, frames, InputSpec(height=64, width=96)))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(found)
    onnxruntime.InferenceSession(int8, options, providers=["CPUExecutionProvider"])
    return list(onnx.load(found).graph.node)


@pytest.mark.parametrize("name", ["resunet", "unetpp"])
def test_only_convolutions_at_the_image_run_in_float(name: str, tmp_path: Path) -> None:
    source = traced(name, tmp_path)
    kinds = Counter(node.op_type for node in optimized(source, tmp_path))
    stems = [
        node
        for node in onnx.load(source).graph.node
        if node.op_type == "Conv" and "image" in node.input
    ]
    floats = ("BatchNormalization", "Conv", "FusedConv")
    assert sum(kinds[kind] for kind in floats) == len(stems) == kinds["QuantizeLinear"]


@pytest.mark.parametrize("name", ["resunet", "unetpp"])
def test_nothing_is_turned_to_float_or_moved_without_need(name: str, tmp_path: Path) -> None:
    nodes = optimized(traced(name, tmp_path, width=16), tmp_path)
    kinds = Counter(node.op_type for node in nodes)
    assert kinds.keys().isdisjoint({"Resize", "DequantizeLinear", "QLinearConcat"})
    assert kinds["Transpose"] == 1, "that of the logits"
    reorders = [node for node in nodes if node.op_type == "ReorderOutput"]
    assert all("channels_last" in str(node.attribute) for node in reorders)


def test_gates_multiply_rows(tmp_path: Path) -> None:
    nodes = optimized(traced("eff_unet", tmp_path, width=16), tmp_path)
    kinds = Counter(node.op_type for node in nodes)
    assert kinds["Expand"] > 0
    assert kinds["MatMulIntegerToFloat"] == 1 + 16, "the head and the gates"


def test_a_convolution_chosen_by_itself_leaves_its_output_in_float(tmp_path: Path) -> None:
    """Or it would answer for the range of its output, when layers are ranked."""
    source, int8 = traced("unetpp", tmp_path), tmp_path / "int8.onnx"
    frames = [np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)]
    table = table_of(source, frames, InputSpec(height=64, width=96))
    narrow, reader = "/x01/x01.0/x01.0.0/Conv", "/x01/x01.1/x01.1.0/Conv"

    def quantized(*nodes: str) -> set[str]:
        quantize_for_cpu(source, int8, table, nodes=nodes)
        found = onnx.load(int8).graph.node
        return {node.input[0] for node in found if node.op_type == "QuantizeLinear"}

    assert quantized(narrow) == {"/Concat_output_0"}
    assert f"{narrow}::widened_output" in quantized(narrow, reader)
