"""Cleaning removes what computes nothing, and nothing else."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgeunet.exporting.graphs.passes import (
    CancelTransposes,
    Clean,
    MoveBytes,
    QuantizeConstants,
    ResizeInFloat,
    RoundOnce,
)
from support.graphs import Array, ops, run
from support.passes import assert_left_alone, assert_same, chain, images, paired, rewritten_by


def test_clean_removes_what_computes_nothing() -> None:
    nodes = [
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32(2))),
        helper.make_node("Identity", ["two"], ["also_two"]),
        helper.make_node("Mul", ["image", "also_two"], ["logits"]),
        helper.make_node("Neg", ["image"], ["nobody_reads_this"]),
    ]
    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3])
        for name in ("image", "logits")
    ]
    unused = numpy_helper.from_array(np.zeros(3, np.float32), "unused")
    graph = helper.make_graph(nodes, "waste", value[:1], value[1:], [unused])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    cleaned = rewritten_by(Clean(), model)
    assert ops(cleaned) == {"Mul"}
    assert len(cleaned.graph.initializer) == 1
    image = np.float32([[1, 2, 3]])
    np.testing.assert_array_equal(run(cleaned, image)[0], 2 * image)


def test_a_resize_reads_what_stands_before_the_pair() -> None:
    before = paired()
    after = rewritten_by(ResizeInFloat(), before)
    image = np.array([[[[0.3, -0.6], [1.1, 2.0]]]], np.float32)
    (old,), (new,) = run(before, image), run(after, image)
    np.testing.assert_array_equal(new[:, :1], image)  # unrounded
    assert not np.array_equal(old[:, :1], image)
    np.testing.assert_array_equal(new[:, 1:], old[:, 1:])  # other readers, other Resizes
    assert [n.input[0] for n in after.graph.node if n.op_type == "Resize"] == ["image", "positive"]


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


def rounded_sum(*more: onnx.NodeProto, activation: str = "Relu") -> onnx.ModelProto:
    """A sum, a pair, an activation and a pair, behind which another Neg may stand."""
    return chain(
        helper.make_node("Add", ["x", "x"], ["sum"], name="sum"),
        helper.make_node("QuantizeLinear", ["sum", "scale"], ["levels"], name="q"),
        helper.make_node("DequantizeLinear", ["levels", "scale"], ["rounded"], name="dq"),
        helper.make_node(activation, ["rounded"], ["active"], name="activation"),
        helper.make_node("QuantizeLinear", ["active", "scale"], ["a"], name="q2"),
        helper.make_node("DequantizeLinear", ["a", "scale"], ["z"], name="dq2"),
        *more,
        scale=np.array(0.05),
    )


@pytest.mark.parametrize("zero", [np.zeros(2, np.int8), np.uint8(7)], ids=["channels", "tensor"])
def test_constants_are_held_as_integers(zero: Array) -> None:
    """Halves go to the even integer, and what is beyond all integers to the last."""
    pairs = [
        helper.make_node(kind, [source, "scale", "zero"], [target], axis=1)
        for kind, source, target in (
            ("QuantizeLinear", "constant", "levels"),
            ("DequantizeLinear", "levels", "rounded"),
        )
    ]
    values = np.array([[[-0.75, 0.25], [0.75, 900.0]], [[-900.0, 0.3], [1.0, 2.5]]])
    scale = np.full(zero.shape, 0.5)
    first = helper.make_node("QuantizeLinear", ["x", "step", ""], ["a"])
    back = helper.make_node("DequantizeLinear", ["a", "step", ""], ["y"])
    last = helper.make_node("Einsum", ["y", "rounded"], ["logits"], equation="nchw,abd->nbdh")
    constants = {"constant": values, "scale": scale, "zero": zero, "step": np.array(0.1)}
    model = chain(first, back, *pairs, last, **constants)
    passes = ir.passes.Sequential(QuantizeConstants(), RemoveUnusedNodesPass())
    found = rewritten_by(passes, model)
    quantized = [n.input[0] for n in found.graph.node if n.op_type == "QuantizeLinear"]
    assert quantized == ["x"]
    np.testing.assert_array_equal(run(found, images())[0], run(model, images())[0])


def test_an_activation_behind_a_sum_rounds_once() -> None:
    last = helper.make_node("Neg", ["z"], ["logits"], name="last")
    model = rounded_sum(last)
    found = rewritten_by(ir.passes.Sequential(RoundOnce(), RemoveUnusedNodesPass()), model)
    kinds = [node.op_type for node in found.graph.node]
    assert kinds == ["Einsum", "Add", "Relu", "QuantizeLinear", "DequantizeLinear", "Neg"]
    assert_same(found, model)  # UINT8 levels start at 0


@pytest.mark.parametrize(
    "model",
    [
        rounded_sum(helper.make_node("Add", ["rounded", "z"], ["logits"], name="last")),
        rounded_sum(helper.make_node("Add", ["active", "z"], ["logits"], name="last")),
        rounded_sum(helper.make_node("Neg", ["z"], ["logits"]), activation="Sigmoid"),
    ],
)
def test_a_rounded_value_that_others_read_stays(model: onnx.ModelProto) -> None:
    assert_left_alone(RoundOnce(), model, images())


@pytest.mark.parametrize(
    ("scales", "left"),
    [((0.1, 0.1, 0.1), 2), ((0.1, 0.2, 0.1), 3), ((0.1, 0.1, 0.2), 3)],
    ids=["one scale", "another beside it", "another behind it"],
)
def test_bytes_that_are_only_moved_are_not_rounded_again(
    scales: tuple[float, float, float], left: int
) -> None:
    """Of a Concat, and of a Transpose behind it, whose pair goes in any case."""
    nodes = [helper.make_node("Neg", ["image"], ["other"])]
    for index, (source, target) in enumerate(
        (("image", "a"), ("other", "b"), ("joined", "c"), ("turned", "logits"))
    ):
        parameters = [f"scale{min(index, 2)}", "zero"]
        nodes.append(helper.make_node("QuantizeLinear", [source, *parameters], [f"{target}8"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{target}8", *parameters], [target]))
        if target == "b":
            nodes.append(helper.make_node("Concat", ["a", "b"], ["joined"], axis=1))
        if target == "c":
            nodes.append(helper.make_node("Transpose", ["c"], ["turned"], perm=[0, 1, 3, 2]))
    constants = {f"scale{index}": np.float32(scale) for index, scale in enumerate(scales)}
    model = chain(*nodes, **constants, zero=np.uint8(7))
    found = rewritten_by(MoveBytes(), model)
    assert sum(node.op_type == "QuantizeLinear" for node in found.graph.node) == left
    assert_same(found, model)
