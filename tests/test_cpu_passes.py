"""Passes for ONNX Runtime's INT8 kernels: the same function afterwards, in another form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import table_of
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from test_passes import Array, ops, run

from edgeunet.export.passes.batch_norm_to_conv import batch_norm_to_conv
from edgeunet.export.passes.graph import origin
from edgeunet.export.passes.spread_depth_to_space import spread_depth_to_space
from edgeunet.export.passes.transpose_head import transpose_head
from edgeunet.export.passes.widen_convolutions import TILE, widen_convolutions
from edgeunet.export.quantize import FOR_CPU, quantize_for_cpu
from edgeunet.export.trace import trace
from edgeunet.manifest import InputSpec
from edgeunet.models import create_model, list_models

SHAPE = (6, 4, 8)  # C, H, W


def chain(*nodes: onnx.NodeProto, **constants: Array) -> onnx.ModelProto:
    """Model from `image` (N, 6, 4, 8) to the last node's output, through a first Neg."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *SHAPE])
    nodes = (helper.make_node("Neg", ["image"], ["x"], name="first"), *nodes)
    shape = ["n", None, None, None]
    found = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, shape)
    tensors = [onnx.numpy_helper.from_array(a.astype("f"), n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "chain", [image], [found], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images(batch: int = 2) -> Array:
    return np.random.default_rng(1).normal(size=(batch, *SHAPE)).astype(np.float32)


def weights(*shape: int) -> Array:
    return np.random.default_rng(2).normal(size=shape).astype(np.float32)


def assert_same(rewritten: onnx.ModelProto, model: onnx.ModelProto) -> None:
    onnx.checker.check_model(rewritten, full_check=True)
    wanted = run(model, images())[0]
    np.testing.assert_allclose(run(rewritten, images())[0], wanted, rtol=1e-5, atol=1e-5)


def traced(name: str, folder: Path) -> Path:
    """A variant whose normalisations do something, as (N, 3, 64, 96) -> 3 classes."""
    torch.manual_seed(0)
    net = create_model(name, num_classes=3, width=8).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    trace(net, folder / "net.onnx", height=64, width=96, channels=3)
    return folder / "net.onnx"


@settings(deadline=None, max_examples=40)
@given(
    channels=st.integers(1, 8),
    kernel=st.sampled_from([1, 3, 5]),
    padded=st.booleans(),
    bias=st.booleans(),
    activation=st.sampled_from(["Relu", "Sigmoid"]),
)
def test_widened_convolution_computes_the_same(
    channels: int, kernel: int, padded: bool, bias: bool, activation: str
) -> None:
    constants = {"w": weights(channels, 6, kernel, kernel)}
    if bias:
        constants["b"] = weights(channels)
    pads = [kernel // 2] * 4 if padded or kernel == 5 else [0] * 4
    model = chain(
        helper.make_node("Conv", ["x", *constants], ["y"], name="conv", pads=pads),
        helper.make_node(activation, ["y"], ["z"], name="activation"),
        helper.make_node("Neg", ["z"], ["logits"], name="last"),
        **constants,
    )
    rewritten = widen_convolutions(model)
    assert_same(rewritten, model)
    wide = next(node for node in rewritten.graph.node if node.op_type == "Conv")
    outputs = next(t.dims[0] for t in rewritten.graph.initializer if t.name == wide.input[1])
    width = 8 + 2 * pads[0] - kernel + 1
    assert channels < outputs <= TILE if width % 2 == 0 else outputs == channels
    if activation == "Relu" and outputs > channels:
        reader = next(node for node in rewritten.graph.node if wide.output[0] in node.input)
        assert reader.op_type == "Relu"  # or the two would not fuse


@pytest.mark.parametrize(
    ("channels", "changed"),
    [
        (16, {}),
        (9, {}),
        (6, {"group": 6}),
        (4, {"strides": [2, 2]}),
        (4, {"dilations": [2, 2]}),
    ],
)
def test_other_convolutions_are_not_widened(channels: int, changed: dict[str, object]) -> None:
    group = int(str(changed.get("group", 1)))
    model = chain(
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1] * 4, **changed),
        helper.make_node("Neg", ["y"], ["logits"], name="last"),
        w=weights(channels, 6 // group, 3, 3),
    )
    assert widen_convolutions(model).graph.node == model.graph.node


def test_convolutions_at_the_borders_are_not_widened() -> None:
    model = chain(
        helper.make_node("Conv", ["image", "w"], ["y"], name="at_image"),
        helper.make_node("Conv", ["y", "v"], ["logits"], name="at_logits"),
        w=weights(4, 6, 1, 1),
        v=weights(4, 4, 1, 1),
    )
    assert widen_convolutions(model).graph.node == model.graph.node


@pytest.mark.parametrize("size", [2, 3])
def test_spread_depth_to_space_moves_the_same_values(size: int) -> None:
    model = chain(
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
        helper.make_node("DepthToSpace", ["y"], ["logits"], name="up", blocksize=size, mode="DCR"),
        w=weights(5 * size**2, 6, 1, 1),
    )
    rewritten = spread_depth_to_space(model)
    assert "DepthToSpace" not in ops(rewritten)
    assert_same(rewritten, model)


def test_depth_to_space_in_the_other_order_is_left_alone() -> None:
    node = helper.make_node("DepthToSpace", ["y"], ["logits"], name="up", blocksize=2, mode="CRD")
    model = chain(
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"), node, w=weights(8, 6, 1, 1)
    )
    assert spread_depth_to_space(model).graph.node == model.graph.node


def test_batch_norm_becomes_a_depthwise_convolution() -> None:
    statistics = {name: weights(6) for name in ("scale", "bias", "mean")}
    statistics["variance"] = weights(6) ** 2
    inputs = ["x", *statistics]
    node = helper.make_node("BatchNormalization", inputs, ["logits"], name="norm", epsilon=1e-3)
    model = chain(node, **statistics)
    rewritten = batch_norm_to_conv(model)
    assert ops(rewritten) == {"Neg", "Conv"}
    assert_same(rewritten, model)


@pytest.mark.parametrize("pad", [0, 1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_head_becomes_a_transposed_convolution(pad: int, bias: bool) -> None:
    constants = {"w": weights(3, 6, 3, 3)} | ({"b": weights(3)} if bias else {})
    node = helper.make_node("Conv", ["x", *constants], ["logits"], name="head", pads=[pad] * 4)
    model = chain(node, **constants)
    rewritten = transpose_head(model)
    assert ops(rewritten) == {"Neg", "ConvTranspose"}
    assert_same(rewritten, model)


@pytest.mark.parametrize(
    ("kernel", "changed"),
    [
        ((1, 1), {}),
        ((3, 1), {}),
        ((3, 3), {"pads": [1, 0, 1, 0]}),
        ((3, 3), {"strides": [2, 2]}),
        ((3, 3), {"pads": [3] * 4}),
    ],
)
def test_other_heads_stay_convolutions(kernel: tuple[int, int], changed: dict[str, object]) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["logits"], name="head", **changed)
    model = chain(node, w=weights(3, 6, *kernel))
    assert transpose_head(model) == model


@pytest.mark.parametrize("name", list_models())
def test_all_passes_leave_every_variant_its_function(name: str, tmp_path: Path) -> None:
    model = rewritten = onnx.load(traced(name, tmp_path))
    for rewrite in FOR_CPU:
        rewritten = rewrite(rewritten)
    image = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    np.testing.assert_allclose(run(rewritten, image)[0], run(model, image)[0], atol=1e-4)
    names = {node.name for node in model.graph.node}
    assert {origin(node.name) for node in rewritten.graph.node} <= names


@pytest.mark.parametrize("name", ["resunet", "unetpp"])
def test_only_convolutions_at_the_borders_run_in_float(name: str, tmp_path: Path) -> None:
    source, int8 = traced(name, tmp_path), tmp_path / "int8.onnx"
    frames = [np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)]
    quantize_for_cpu(source, int8, table_of(source, frames, InputSpec(height=64, width=96)))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(int8, options, providers=["CPUExecutionProvider"])
    run_ops = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    borders = [
        node
        for node in onnx.load(source).graph.node
        if node.op_type == "Conv" and ("image" in node.input or "logits" in node.output)
    ]
    floats = ("BatchNormalization", "Conv", "FusedConv")
    assert sum(run_ops.count(op) for op in floats) == len(borders)


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
