"""A head as a transposed convolution."""

from __future__ import annotations

import pytest
from onnx import helper

from edgeunet.export.graphs.passes.transpose_head import transpose_head
from support.graphs import ops
from support.passes import assert_same, chain, weights


@pytest.mark.parametrize("pad", [0, 1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_head_becomes_a_transposed_convolution(pad: int, bias: bool) -> None:
    constants = {"w": weights(3, 6, 3, 3)} | ({"b": weights(3)} if bias else {})
    node = helper.make_node("Conv", ["x", *constants], ["logits"], name="head", pads=[pad] * 4)
    model = chain(node, **constants)
    rewritten = transpose_head(model)
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
    assert transpose_head(model) == model
