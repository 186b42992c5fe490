"""Gates that are expanded to rows."""

from __future__ import annotations

import pytest
from onnx import helper

from edgeunet.export.graphs.passes.expand_gates import LONG, expand_gates
from edgeunet.export.graphs.passes.graph import map_shapes
from support.passes import SHAPE, assert_same, chain, weights


@pytest.mark.parametrize("gate_first", [True, False])
def test_gates_are_expanded_to_rows(gate_first: bool) -> None:
    factors = ["gate", "x"] if gate_first else ["x", "gate"]
    model = chain(
        helper.make_node("GlobalAveragePool", ["x"], ["gate"], name="mean"),
        helper.make_node("Mul", factors, ["logits"], name="mul"),
    )
    rewritten = expand_gates(model)
    assert_same(rewritten, model)
    _, _, width = SHAPE
    assert map_shapes(rewritten)["mul::channels_first_output"] == (6, 1, width)


def test_long_gates_and_other_products_are_left_alone() -> None:
    model = chain(
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
        helper.make_node("GlobalAveragePool", ["y"], ["gate"], name="mean"),
        helper.make_node("Mul", ["y", "gate"], ["z"], name="gated"),
        helper.make_node("Mul", ["z", "z"], ["logits"], name="squared"),
        w=weights(LONG, 6, 1, 1),
    )
    assert expand_gates(model).graph.node == model.graph.node
