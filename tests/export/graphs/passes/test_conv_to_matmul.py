"""Pointwise convolutions as matrix products."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from edgeunet.export.graphs.passes.conv_to_matmul import conv_to_matmul
from edgeunet.export.graphs.passes.graph import constants
from support.graphs import ops
from support.passes import assert_same, chain, weights


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("outputs", "neighbours"), [(1, 8), (3, 4), (8, 2), (9, 1)])
def test_pointwise_head_becomes_a_product(outputs: int, neighbours: int, bias: bool) -> None:
    constants_ = {"w": weights(outputs, 6, 1, 1)} | ({"b": weights(outputs)} if bias else {})
    node = helper.make_node("Conv", ["x", *constants_], ["logits"], name="head")
    model = chain(node, **constants_)
    rewritten = conv_to_matmul(model)
    assert "Conv" not in ops(rewritten)
    assert_same(rewritten, model)
    product = next(node for node in rewritten.graph.node if node.op_type == "MatMul")
    found = constants(rewritten)[product.input[1]].shape
    assert found == (6 * neighbours, outputs * neighbours)


def test_convolution_that_a_sigmoid_alone_reads_becomes_a_product() -> None:
    def ending(*nodes: onnx.NodeProto) -> onnx.ModelProto:
        conv = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
        sigmoid = helper.make_node("Sigmoid", ["y"], ["s"], name="sigmoid")
        return chain(conv, sigmoid, *nodes, w=weights(6, 6, 1, 1))

    gate = ending(helper.make_node("Mul", ["x", "s"], ["logits"], name="mul"))
    silu = ending(helper.make_node("Mul", ["y", "s"], ["logits"], name="mul"))
    assert_same(conv_to_matmul(gate), gate)
    assert "MatMul" in ops(conv_to_matmul(gate))
    assert conv_to_matmul(silu).graph.node == silu.graph.node


@pytest.mark.parametrize(
    ("kernel", "changed"), [(3, {"pads": [1] * 4}), (1, {"pads": [1] * 4}), (1, {"group": 2})]
)
def test_other_heads_do_not_become_products(kernel: int, changed: dict[str, object]) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["logits"], name="head", **changed)
    model = chain(node, w=weights(4, 6 // int(str(changed.get("group", 1))), kernel, kernel))
    assert conv_to_matmul(model).graph.node == model.graph.node
