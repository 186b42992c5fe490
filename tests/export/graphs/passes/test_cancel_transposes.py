"""Transposes that undo one another."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeunet.export.graphs.passes.cancel_transposes import cancel_transposes
from support.graphs import run
from support.passes import chain, images


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
    rewritten = cancel_transposes(model)
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
    assert cancel_transposes(model).graph.node == model.graph.node
