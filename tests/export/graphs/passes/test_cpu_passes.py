"""Passes for ONNX Runtime's INT8 kernels: the same function afterwards, in another form."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_ir.passes import Sequential

from edgeunet.export.graphs.passes import (
    BatchNormToConv,
    CancelTransposes,
    ChannelsLastStem,
    ConvToMatMul,
    ExpandGates,
    ResizeToConv,
    SpreadDepthToSpace,
    TransposeHead,
    WidenConvolutions,
)
from edgeunet.export.graphs.passes.convolutions import TILE
from edgeunet.export.graphs.passes.graph import origin
from edgeunet.export.graphs.passes.layout import LONG
from edgeunet.export.int8.quantize import FOR_CPU
from edgeunet.models import list_models
from export.graphs.passes.test_passes import assert_left_alone, rewritten_by
from support.graphs import Array, ops, run, traced

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


def weight_shape(model: onnx.ModelProto, node: onnx.NodeProto) -> tuple[int, ...]:
    return next(tuple(t.dims) for t in model.graph.initializer if t.name == node.input[1])


def resized(
    shape: tuple[int | None, ...], *, scales: tuple[float, ...] = (1, 1, 2, 2), **settings: str
) -> onnx.ModelProto:
    """Model of one Resize, by default bilinear to twice the size."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *shape])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", None, None, None])
    inputs = ["image", "", "scales"]
    node = helper.make_node(
        "Resize", inputs, ["logits"], name="up", **{"mode": "linear"} | settings
    )
    tensors = [onnx.numpy_helper.from_array(np.float32(scales), "scales")]
    graph = helper.make_graph([node], "resized", [image], [logits], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def assert_same(rewritten: onnx.ModelProto, model: onnx.ModelProto) -> None:
    onnx.checker.check_model(rewritten, full_check=True)
    wanted = run(model, images())[0]
    np.testing.assert_allclose(run(rewritten, images())[0], wanted, rtol=1e-5, atol=1e-5)


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
    rewritten = rewritten_by(WidenConvolutions(), model)
    assert_same(rewritten, model)
    wide = next(node for node in rewritten.graph.node if node.op_type == "Conv")
    outputs = weight_shape(rewritten, wide)[0]
    width = 8 + 2 * pads[0] - kernel + 1
    assert channels < outputs <= 2 * TILE if width % 2 == 0 else outputs == channels
    if activation == "Relu" and outputs > channels:
        reader = next(node for node in rewritten.graph.node if wide.output[0] in node.input)
        assert reader.op_type == "Relu"  # or the two would not fuse


@pytest.mark.parametrize(
    ("channels", "changed"),
    [
        (32, {}),
        (17, {}),
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
    assert_left_alone(WidenConvolutions(), model, images())


@pytest.mark.parametrize(("inputs", "outputs"), [(TILE, 2 * TILE), (TILE + 1, TILE)])
def test_only_of_few_channels_two_tiles_are_filled(inputs: int, outputs: int) -> None:
    model = chain(
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1] * 4),
        helper.make_node("Conv", ["y", "v"], ["z"], name="narrow", pads=[1] * 4),
        helper.make_node("Neg", ["z"], ["logits"], name="last"),
        w=weights(inputs, 6, 3, 3),
        v=weights(8, inputs, 3, 3),
    )
    rewritten = rewritten_by(WidenConvolutions(), model)
    assert_same(rewritten, model)
    narrow = next(node for node in rewritten.graph.node if node.name == "narrow")
    assert weight_shape(rewritten, narrow)[0] == outputs


def test_convolutions_at_the_borders_are_not_widened() -> None:
    model = chain(
        helper.make_node("Conv", ["image", "w"], ["y"], name="at_image"),
        helper.make_node("Conv", ["y", "v"], ["logits"], name="at_logits"),
        w=weights(4, 6, 1, 1),
        v=weights(4, 4, 1, 1),
    )
    assert_left_alone(WidenConvolutions(), model, images())


@pytest.mark.parametrize("size", [2, 3])
def test_spread_depth_to_space_moves_the_same_values(size: int) -> None:
    model = chain(
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
        helper.make_node("DepthToSpace", ["y"], ["logits"], name="up", blocksize=size, mode="DCR"),
        w=weights(5 * size**2, 6, 1, 1),
    )
    rewritten = rewritten_by(SpreadDepthToSpace(), model)
    assert "DepthToSpace" not in ops(rewritten)
    assert_same(rewritten, model)


def test_depth_to_space_in_the_other_order_is_left_alone() -> None:
    node = helper.make_node("DepthToSpace", ["y"], ["logits"], name="up", blocksize=2, mode="CRD")
    model = chain(
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"), node, w=weights(8, 6, 1, 1)
    )
    assert_left_alone(SpreadDepthToSpace(), model, images())


def test_batch_norm_becomes_a_depthwise_convolution() -> None:
    statistics = {name: weights(6) for name in ("scale", "bias", "mean")}
    statistics["variance"] = weights(6) ** 2
    inputs = ["x", *statistics]
    node = helper.make_node("BatchNormalization", inputs, ["logits"], name="norm", epsilon=1e-3)
    model = chain(node, **statistics)
    rewritten = rewritten_by(BatchNormToConv(), model)
    assert ops(rewritten) == {"Neg", "Conv"}
    assert_same(rewritten, model)


@pytest.mark.parametrize("pad", [0, 1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_head_becomes_a_transposed_convolution(pad: int, bias: bool) -> None:
    constants = {"w": weights(3, 6, 3, 3)} | ({"b": weights(3)} if bias else {})
    node = helper.make_node("Conv", ["x", *constants], ["logits"], name="head", pads=[pad] * 4)
    model = chain(node, **constants)
    rewritten = rewritten_by(TransposeHead(), model)
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
    assert_left_alone(TransposeHead(), model, images())


@settings(deadline=None, max_examples=20)
@given(channels=st.integers(1, 5), height=st.integers(1, 6), width=st.integers(1, 6))
def test_upsampling_as_a_convolution_computes_the_same(
    channels: int, height: int, width: int
) -> None:
    model = resized((channels, height, width))
    rewritten = rewritten_by(ResizeToConv(), model)
    assert "Resize" not in ops(rewritten)
    image = np.random.default_rng(1).normal(size=(2, channels, height, width)).astype("f")
    np.testing.assert_allclose(run(rewritten, image)[0], run(model, image)[0], atol=1e-6)


def test_upsampling_of_an_unsized_map_stays_a_resize() -> None:
    assert_left_alone(ResizeToConv(), resized((3, None, None)), images()[:, :3])


@pytest.mark.parametrize(
    ("scales", "changed"),
    [
        ((1, 1, 2, 4), {}),
        ((1, 2, 2, 2), {}),
        ((1, 1, 2, 2), {"mode": "nearest"}),
        ((1, 1, 2, 2), {"coordinate_transformation_mode": "align_corners"}),
        ((1, 1, 2, 2), {"coordinate_transformation_mode": "asymmetric"}),
    ],
)
def test_other_resizes_stay(scales: tuple[float, ...], changed: dict[str, str]) -> None:
    model = resized((2, 4, 4), scales=scales, **changed)
    image = None if scales[1] != 1 else images()[:, :2, :, :4]
    assert_left_alone(ResizeToConv(), model, image)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("outputs", "neighbours"), [(1, 8), (3, 4), (8, 2), (9, 1)])
def test_pointwise_head_becomes_a_product(outputs: int, neighbours: int, bias: bool) -> None:
    constants_ = {"w": weights(outputs, 6, 1, 1)} | ({"b": weights(outputs)} if bias else {})
    node = helper.make_node("Conv", ["x", *constants_], ["logits"], name="head")
    model = chain(node, **constants_)
    rewritten = rewritten_by(ConvToMatMul(), model)
    assert "Conv" not in ops(rewritten)
    assert_same(rewritten, model)
    product = next(node for node in rewritten.graph.node if node.op_type == "MatMul")
    assert weight_shape(rewritten, product) == (6 * neighbours, outputs * neighbours)


def test_convolution_that_a_sigmoid_alone_reads_becomes_a_product() -> None:
    def ending(*nodes: onnx.NodeProto) -> onnx.ModelProto:
        conv = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
        sigmoid = helper.make_node("Sigmoid", ["y"], ["s"], name="sigmoid")
        return chain(conv, sigmoid, *nodes, w=weights(6, 6, 1, 1))

    gate = ending(helper.make_node("Mul", ["x", "s"], ["logits"], name="mul"))
    silu = ending(helper.make_node("Mul", ["y", "s"], ["logits"], name="mul"))
    assert_same(rewritten_by(ConvToMatMul(), gate), gate)
    assert "MatMul" in ops(rewritten_by(ConvToMatMul(), gate))
    assert_left_alone(ConvToMatMul(), silu, images())


@pytest.mark.parametrize(
    ("kernel", "changed"), [(3, {"pads": [1] * 4}), (1, {"pads": [1] * 4}), (1, {"group": 2})]
)
def test_other_heads_do_not_become_products(kernel: int, changed: dict[str, object]) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["logits"], name="head", **changed)
    model = chain(node, w=weights(4, 6 // int(str(changed.get("group", 1))), kernel, kernel))
    assert_left_alone(ConvToMatMul(), model, images())


@pytest.mark.parametrize("gate_first", [True, False])
def test_gates_are_expanded_to_rows(gate_first: bool) -> None:
    factors = ["gate", "x"] if gate_first else ["x", "gate"]
    model = chain(
        helper.make_node("GlobalAveragePool", ["x"], ["gate"], name="mean"),
        helper.make_node("Mul", factors, ["logits"], name="mul"),
    )
    rewritten = rewritten_by(ExpandGates(), model)
    assert_same(rewritten, model)
    _, _, width = SHAPE
    inferred = onnx.shape_inference.infer_shapes(rewritten).graph.value_info
    gate = next(value for value in inferred if value.name == "mul::channels_first_output")
    sizes = [size.dim_value for size in gate.type.tensor_type.shape.dim]
    assert sizes[1:] == [6, 1, width]


def test_long_gates_and_other_products_are_left_alone() -> None:
    model = chain(
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
        helper.make_node("GlobalAveragePool", ["y"], ["gate"], name="mean"),
        helper.make_node("Mul", ["y", "gate"], ["z"], name="gated"),
        helper.make_node("Mul", ["z", "z"], ["logits"], name="squared"),
        w=weights(LONG, 6, 1, 1),
    )
    assert_left_alone(ExpandGates(), model, images())


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid"])
def test_stem_is_turned_there_and_back(activation: str) -> None:
    model = chain(
        helper.make_node("Conv", ["image", "w"], ["y"], name="stem"),
        helper.make_node(activation, ["y"], ["z"], name="activation"),
        helper.make_node("Add", ["z", "x"], ["logits"], name="add"),
        w=weights(6, 6, 1, 1),
    )
    rewritten = rewritten_by(ChannelsLastStem(), model)
    assert_same(rewritten, model)
    kinds = [node.op_type for node in rewritten.graph.node]
    moves = ["Transpose", "Flatten", "Reshape", "Transpose"]
    stem = ["Conv", "Relu", *moves] if activation == "Relu" else ["Conv", *moves, "Sigmoid"]
    assert kinds == ["Neg", *stem, "Add"]


@settings(deadline=None, max_examples=30)
@given(orders=st.lists(st.permutations([0, 1, 2, 3]), min_size=2, max_size=5), read=st.booleans())
def test_transposes_that_undo_another_are_removed(orders: list[list[int]], read: bool) -> None:
    names = ["x", *(f"t{index}" for index in range(len(orders)))]
    transposes = [
        helper.make_node("Transpose", [before], [after], name=after, perm=order)
        for (before, after), order in zip(pairwise(names), orders, strict=True)
    ]
    model = chain(*transposes, helper.make_node("Neg", [names[-1]], ["logits"], name="last"))
    if read:
        model.graph.output.append(helper.make_empty_tensor_value_info("t0"))
        model.graph.output[-1].type.CopyFrom(model.graph.output[0].type)
    rewritten = rewritten_by(CancelTransposes(), model)
    for found, wanted in zip(run(rewritten, images()), run(model, images()), strict=True):
        np.testing.assert_array_equal(found, wanted)
    left = [node for node in rewritten.graph.node if node.op_type == "Transpose"]
    by_output = {node.output[0]: list(node.attribute[0].ints) for node in left}
    for node in left:
        there, back = by_output.get(node.input[0]), node.attribute[0].ints
        assert there is None or [there[axis] for axis in back] != [0, 1, 2, 3]


def test_a_transpose_of_another_order_is_kept() -> None:
    model = chain(
        helper.make_node("Transpose", ["x"], ["y"], name="there", perm=[0, 2, 3, 1]),
        helper.make_node("Transpose", ["y"], ["z"], name="further", perm=[0, 2, 3, 1]),
        helper.make_node("Neg", ["z"], ["logits"], name="last"),
    )
    assert_left_alone(CancelTransposes(), model, images())


@pytest.mark.parametrize("name", list_models())
def test_all_passes_leave_every_variant_its_function(name: str, tmp_path: Path) -> None:
    model = onnx.load(traced(name, tmp_path))
    rewritten = rewritten_by(Sequential(*FOR_CPU, CancelTransposes()), model)
    image = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    np.testing.assert_allclose(run(rewritten, image)[0], run(model, image)[0], atol=1e-4)
    names = {node.name for node in model.graph.node}
    assert {origin(node.name) for node in rewritten.graph.node} <= names
