"""Convolutions rewritten for the CPU: the same function, other operators."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeunet.exporting.graphs.passes import (
    BatchNormToConv,
    ConvToMatMul,
    ExpandGates,
    PadToConv,
    TransposeHead,
    WidenConvolutions,
)
from edgeunet.exporting.graphs.passes.convolutions import BLOCK, TILE
from edgeunet.exporting.graphs.passes.layout import LONG
from support.graphs import ops
from support.passes import (
    assert_left_alone,
    assert_same,
    chain,
    images,
    product,
    rewritten_by,
    weight_shape,
    weights,
)


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
        product("z", "logits", "last"),
        **constants,
    )
    rewritten = rewritten_by(WidenConvolutions(), model)
    assert_same(rewritten, model)
    wide = next(node for node in rewritten.graph.node if node.op_type == "Conv")
    outputs = weight_shape(rewritten, wide)[0]
    width = 8 + 2 * pads[0] - kernel + 1
    widens = width % 2 == 0 and 2 * channels <= TILE
    assert channels < outputs <= TILE if widens else outputs == channels
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
        product("y", "logits", "last"),
        w=weights(channels, 6 // group, 3, 3),
    )
    assert_left_alone(WidenConvolutions(), model, images())


def test_convolutions_at_the_borders_are_not_widened() -> None:
    model = chain(
        helper.make_node("Conv", ["image", "w"], ["y"], name="at_image"),
        helper.make_node("Conv", ["y", "v"], ["logits"], name="at_logits"),
        w=weights(4, 6, 1, 1),
        v=weights(4, 4, 1, 1),
    )
    assert_left_alone(WidenConvolutions(), model, images())


def test_batch_norm_becomes_a_depthwise_convolution() -> None:
    statistics = {name: weights(6) for name in ("scale", "bias", "mean")}
    statistics["variance"] = weights(6) ** 2
    inputs = ["x", *statistics]
    node = helper.make_node("BatchNormalization", inputs, ["logits"], name="norm", epsilon=1e-3)
    model = chain(node, **statistics)
    rewritten = rewritten_by(BatchNormToConv(), model)
    assert ops(rewritten) == {"Einsum", "Conv"}
    assert_same(rewritten, model)


@pytest.mark.parametrize("pad", [0, 1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_head_becomes_a_transposed_convolution(pad: int, bias: bool) -> None:
    constants = {"w": weights(3, 6, 3, 3)} | ({"b": weights(3)} if bias else {})
    node = helper.make_node("Conv", ["x", *constants], ["logits"], name="head", pads=[pad] * 4)
    model = chain(node, **constants)
    rewritten = rewritten_by(TransposeHead(), model)
    assert ops(rewritten) == {"Einsum", "ConvTranspose"}
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


@pytest.mark.parametrize(("outputs", "turned"), [(4, True), (5, False), (BLOCK, False)])
def test_heads_with_fewer_classes_than_inputs_are_turned(outputs: int, turned: bool) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["logits"], name="head", pads=[1] * 4)
    model = chain(node, w=weights(outputs, 6, 3, 3))
    if turned:
        found = rewritten_by(TransposeHead(), model)
        assert "ConvTranspose" in ops(found)
        assert_same(found, model)
    else:
        assert_left_alone(TransposeHead(), model, images())


def test_heads_behind_a_resize_and_a_sum_are_found() -> None:
    model = chain(
        helper.make_node("Conv", ["x", "w"], ["y"], name="one", pads=[1] * 4),
        helper.make_node("Conv", ["x", "v"], ["z"], name="other"),
        helper.make_node("Add", ["y", "z"], ["sum"], name="sum"),
        helper.make_node("Resize", ["sum", "", "twice"], ["large"], name="up"),
        helper.make_node("Softmax", ["large"], ["logits"], name="shares", axis=1),
        w=weights(3, 6, 3, 3),
        v=weights(3, 6, 1, 1),
        twice=np.array([1.0, 1, 2, 2]),
    )
    rewritten = rewritten_by(ir.passes.Sequential(TransposeHead(), ConvToMatMul()), model)
    assert {"ConvTranspose", "MatMul"} <= ops(rewritten)
    assert "Conv" not in ops(rewritten)
    assert_same(rewritten, model)


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
        last = product("z", "logits", "last")
        return chain(conv, sigmoid, *nodes, last, w=weights(6, 6, 1, 1))

    gate = ending(helper.make_node("Mul", ["x", "s"], ["z"], name="mul"))
    silu = ending(helper.make_node("Mul", ["y", "s"], ["z"], name="mul"))
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


def test_long_gates_and_other_products_are_left_alone() -> None:
    model = chain(
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
        helper.make_node("GlobalAveragePool", ["y"], ["gate"], name="mean"),
        helper.make_node("Mul", ["y", "gate"], ["z"], name="gated"),
        helper.make_node("Mul", ["z", "z"], ["logits"], name="squared"),
        w=weights(LONG, 6, 1, 1),
    )
    assert_left_alone(ExpandGates(), model, images())


def padded(borders: list[int], *, readers: int = 1, **changed: object) -> onnx.ModelProto:
    """A Pad that one or two convolutions read."""
    pad = helper.make_node("Pad", ["x", "borders"], ["y"], name="pad", **changed)
    convs = [
        helper.make_node("Conv", ["y", "w"], [f"z{index}"], name=f"conv{index}", pads=[1, 0, 0, 1])
        for index in range(readers)
    ]
    last = helper.make_node("Sum", [f"z{index}" for index in range(readers)], ["logits"])
    return chain(pad, *convs, last, w=weights(4, 6, 3, 3), borders=np.array(borders))


@pytest.mark.parametrize("readers", [1, 2])
@pytest.mark.parametrize("borders", [[0] * 8, [0, 0, 0, 1, 0, 0, 2, 3]])
def test_convolutions_pad_themselves(borders: list[int], readers: int) -> None:
    model = padded(borders, readers=readers)
    rewritten = rewritten_by(PadToConv(), model)
    assert "Pad" not in ops(rewritten)
    assert_same(rewritten, model)


@pytest.mark.parametrize(
    ("borders", "changed"),
    [
        ([0, 0, 1, 1, 0, 0, 1, 1], {"mode": "reflect"}),
        ([0, 0, -1, 0, 0, 0, 1, 1], {}),
        ([1, 0, 0, 0, 0, 0, 1, 1], {}),
    ],
)
def test_other_borders_stay(borders: list[int], changed: dict[str, object]) -> None:
    assert_left_alone(PadToConv(), padded(borders, **changed), images())


def test_a_border_that_others_read_too_stays() -> None:
    borders = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    model = chain(
        helper.make_node("Pad", ["x", "borders"], ["y"], name="pad"),
        helper.make_node("Conv", ["y", "w"], ["z"], name="conv", pads=[1] * 4),
        helper.make_node("Add", ["y", "z"], ["logits"], name="sum"),
        w=weights(6, 6, 3, 3),
        borders=borders,
    )
    assert_left_alone(PadToConv(), model, images())
