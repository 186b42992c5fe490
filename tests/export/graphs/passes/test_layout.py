"""The order in which values lie in memory: the same function, fewer copies."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from edgeunet.exporting.graphs.passes import (
    ChannelsLastStem,
    ExpandGates,
    MapsOfTokens,
    ResizeChannelsLast,
    SpreadDepthToSpace,
    TokensOfMaps,
)
from support.graphs import ops
from support.passes import (
    SHAPE,
    assert_left_alone,
    assert_same,
    chain,
    images,
    rewritten_by,
    weights,
)


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


def test_constant_factors_are_left_alone() -> None:
    model = chain(helper.make_node("Mul", ["x", "w"], ["logits"], name="mul"), w=weights(6, 1, 1))
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
    assert kinds == ["Einsum", *stem, "Add"]


def transformer(*, order: tuple[int, ...] = (0, 2, 1), conv: bool = True) -> onnx.ModelProto:
    """A map -> its tokens -> a map that a convolution reads -> tokens -> a map."""
    channels, height, width = SHAPE
    return chain(
        helper.make_node("Reshape", ["x", "row"], ["r0"], name="r0"),
        helper.make_node("Transpose", ["r0"], ["tokens"], name="t0", perm=order),
        helper.make_node("Softmax", ["tokens"], ["mixed"], name="mix", axis=2),
        helper.make_node("Transpose", ["mixed"], ["t1"], name="t1", perm=order),
        helper.make_node("Reshape", ["t1", "map"], ["pixels"], name="pixels"),
        helper.make_node("Conv", ["pixels", "w"], ["logits"], name="conv", pads=[1] * 4),
        row=np.int64([0, channels, height * width]),
        map=np.int64([0, channels, height, width]),
        w=weights(3, channels, 3, 3),
    )


def test_tokens_are_pixels_with_channels_last() -> None:
    model = transformer()
    found = rewritten_by(ir.passes.Sequential(MapsOfTokens(), TokensOfMaps()), model)
    assert_same(found, model)
    orders = [list(n.attribute[0].ints) for n in found.graph.node if n.op_type == "Transpose"]
    assert orders == [[0, 2, 3, 1], [0, 3, 1, 2]]
    assert "Flatten" in ops(found), "or quantization moves on to the readers of the tokens"


def test_what_is_no_order_of_tokens_stays() -> None:
    model = transformer(order=(0, 1, 2))
    assert_left_alone(MapsOfTokens(), model, images())
    assert_left_alone(TokensOfMaps(), model, images())


def enlarged(channels: int, *, last: bool = False, **settings: str) -> onnx.ModelProto:
    settings = {"mode": "linear", **settings}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
        helper.make_node("Resize", ["y", "", "scales"], ["up"], name="up", **settings),
    ]
    nodes.append(
        helper.make_node("Neg", ["up"], ["logits"], name="last")
        if last
        else helper.make_node("Conv", ["up", "v"], ["logits"], name="head")
    )
    scales = np.float32([1, 1, 3, 2])
    return chain(*nodes, w=weights(channels, 6, 1, 1), v=weights(3, channels, 1, 1), scales=scales)


@pytest.mark.parametrize("place", ["half_pixel", "align_corners", "asymmetric"])
def test_a_bilinear_resize_goes_by_pixels(place: str) -> None:
    model = enlarged(8, coordinate_transformation_mode=place)
    found = rewritten_by(ResizeChannelsLast(), model)
    assert_same(found, model)
    assert [n.op_type for n in found.graph.node].count("Transpose") == 2


@pytest.mark.parametrize(
    "model",
    [enlarged(7), enlarged(8, mode="nearest"), enlarged(8, last=True)],
    ids=["few channels", "nearest", "behind the head"],
)
def test_other_resizes_go_by_channels(model: onnx.ModelProto) -> None:
    assert_left_alone(ResizeChannelsLast(), model, images())


def test_a_resize_that_crops_goes_by_channels() -> None:
    model = enlarged(8, coordinate_transformation_mode="tf_crop_and_resize")
    model.graph.node[2].input[1] = "roi"
    roi = np.float32([0, 0, 0, 0.25, 1, 1, 1, 0.75])
    model.graph.initializer.append(numpy_helper.from_array(roi, "roi"))
    assert_left_alone(ResizeChannelsLast(), model, images())
