"""A stem with its channels last."""

from __future__ import annotations

import pytest
from onnx import helper

from edgeunet.export.graphs.passes.channels_last_stem import channels_last_stem
from support.passes import assert_same, chain, weights


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid"])
def test_stem_is_turned_there_and_back(activation: str) -> None:
    model = chain(
        helper.make_node("Conv", ["image", "w"], ["y"], name="stem"),
        helper.make_node(activation, ["y"], ["z"], name="activation"),
        helper.make_node("Add", ["z", "x"], ["logits"], name="add"),
        w=weights(6, 6, 1, 1),
    )
    rewritten = channels_last_stem(model)
    assert_same(rewritten, model)
    kinds = [node.op_type for node in rewritten.graph.node]
    moves = ["Transpose", "Flatten", "Reshape", "Transpose"]
    stem = ["Conv", "Relu", *moves] if activation == "Relu" else ["Conv", *moves, "Sigmoid"]
    assert kinds == ["Neg", *stem, "Add"]
