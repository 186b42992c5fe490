"""Graphs for ONNX Runtime's INT8 kernels, and what ONNX Runtime makes of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx_ir.passes import Sequential
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgeunet.bundle.manifest import InputSpec
from edgeunet.exporting.graphs.passes import (
    CancelTransposes,
    ConcatInInt8,
)
from edgeunet.exporting.graphs.passes.graph import origin
from edgeunet.exporting.int8.calibration.observe import activations
from edgeunet.exporting.int8.quantize import passes_for_cpu, quantize_for_cpu
from edgeunet.exporting.lint import lint
from edgeunet.models import list_models
from support.exports import table_of
from support.graphs import run, traced
from support.int8 import TABLE
from support.lint_graphs.reports import broken
from support.passes import assert_left_alone, rewritten_by


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


def test_a_float_convolution_keeps_its_weights(tmp_path: Path) -> None:
    """ONNX Runtime gives only those of constant float weights its fast form."""
    source, int8 = traced("unet3p", tmp_path), tmp_path / "int8.onnx"
    frames = [np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)]
    quantize_for_cpu(source, int8, table_of(source, frames, InputSpec(height=64, width=96)))
    graph = onnx.load(int8).graph
    constants = {tensor.name: tensor.data_type for tensor in graph.initializer}
    (head,) = (node for node in graph.node if "logits" in node.output)
    assert head.op_type in ("Conv", "ConvTranspose")
    assert {constants[name] for name in head.input[1:]} == {onnx.TensorProto.FLOAT}
    before = {out: node for node in graph.node for out in node.output}[head.input[0]]
    assert before.op_type == "DequantizeLinear"


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


JOINED = np.random.default_rng(0).normal(scale=20, size=(2, 3, 2, 2)).astype(np.float32)


def joined(*, second: float, third: float, reads_pair: bool = False) -> onnx.ModelProto:
    """Concat of two dequantized maps, quantized again; the scales of the three pairs."""
    names = ("a", "b", "c")
    scales = dict(zip((f"{name}_scale" for name in names), (0.5, second, third), strict=True))
    pair = [
        helper.make_node("QuantizeLinear", ["image", f"{name}_scale", "zero"], [f"{name}_q"])
        for name in "ab"
    ]
    pair += [
        helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_scale", "zero"], [name])
        for name in "ab"
    ]
    nodes = [
        *pair,
        helper.make_node("Concat", ["a", "b"], ["c"], axis=1),
        helper.make_node("QuantizeLinear", ["c", "c_scale", "zero"], ["c_q"]),
        helper.make_node("DequantizeLinear", ["c_q", "c_scale", "zero"], ["logits"]),
    ]
    outputs = ["logits"]
    if reads_pair:
        nodes.append(helper.make_node("Neg", ["a"], ["beside"]))
        outputs.append("beside")
    shape = ["n", None, 2, 2]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in outputs]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 2, 2])
    tensors = [onnx.numpy_helper.from_array(np.float32(v), n) for n, v in scales.items()]
    tensors.append(onnx.numpy_helper.from_array(np.uint8(100), "zero"))
    graph = helper.make_graph(nodes, "joined", [image], values, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("reads_pair", [True, False])
def test_concat_of_one_scale_joins_bytes(reads_pair: bool) -> None:
    model = joined(second=0.5, third=0.5, reads_pair=reads_pair)
    rewritten = rewritten_by(Sequential(ConcatInInt8(), RemoveUnusedNodesPass()), model)
    onnx.checker.check_model(rewritten, full_check=True)
    kinds = Counter(node.op_type for node in rewritten.graph.node)
    assert kinds["QuantizeLinear"] == 2
    assert kinds["DequantizeLinear"] == 2 if reads_pair else 1
    for found, wanted in zip(run(rewritten, JOINED), run(model, JOINED), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("second", "third"), [(0.25, 0.5), (0.5, 0.25)])
def test_concat_of_two_scales_is_left_alone(second: float, third: float) -> None:
    assert_left_alone(ConcatInInt8(), joined(second=second, third=third), JOINED)


def test_concat_whose_output_stays_float_is_left_alone() -> None:
    model = joined(second=0.5, third=0.5)
    del model.graph.node[-2:]
    model.graph.node[-1].output[0] = "logits"
    assert_left_alone(ConcatInInt8(), model, JOINED)


@pytest.mark.parametrize("name", list_models())
def test_every_variant_keeps_its_function_and_is_summed_exactly(name: str, tmp_path: Path) -> None:
    source, int8 = traced(name, tmp_path), tmp_path / "int8.onnx"
    model = onnx.load(source)
    rewritten = rewritten_by(Sequential(*passes_for_cpu(), CancelTransposes()), model)
    image = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    np.testing.assert_allclose(run(rewritten, image)[0], run(model, image)[0], atol=1e-4)
    names = {node.name for node in model.graph.node}
    assert {origin(node.name) for node in rewritten.graph.node} <= names

    ranges = dict.fromkeys(["image", *activations(model)], (-1.0, 1.0))
    quantize_for_cpu(source, int8, replace(TABLE, ranges=ranges))
    assert "narrow-sums" not in broken(lint(int8, "ort-cpu"))
