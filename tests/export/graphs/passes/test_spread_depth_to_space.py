"""DepthToSpace as a spread."""

from __future__ import annotations

import pytest
from onnx import helper

from edgeunet.export.graphs.passes.spread_depth_to_space import spread_depth_to_space
from support.graphs import ops
from support.passes import assert_same, chain, weights


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
