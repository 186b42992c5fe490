"""The order in which values lie in memory: the same function, fewer copies."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from edgeunet.exporting.graphs.passes import (
    ChannelsLastStem,
    ExpandGates,
    SpreadDepthToSpace,
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
