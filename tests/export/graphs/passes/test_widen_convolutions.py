"""Convolutions that are widened to fill the tiles of ONNX Runtime."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgeunet.export.graphs.passes.graph import constants
from edgeunet.export.graphs.passes.widen_convolutions import TILE, widen_convolutions
from support.passes import assert_same, chain, weights


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
        helper.make_node("Neg", ["z"], ["logits"], name="last"),
        **constants,
    )
    rewritten = widen_convolutions(model)
    assert_same(rewritten, model)
    wide = next(node for node in rewritten.graph.node if node.op_type == "Conv")
    outputs = next(t.dims[0] for t in rewritten.graph.initializer if t.name == wide.input[1])
    width = 8 + 2 * pads[0] - kernel + 1
    assert channels < outputs <= 2 * TILE if width % 2 == 0 else outputs == channels
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
        helper.make_node("Neg", ["y"], ["logits"], name="last"),
        w=weights(channels, 6 // group, 3, 3),
    )
    assert widen_convolutions(model).graph.node == model.graph.node


@pytest.mark.parametrize(("inputs", "outputs"), [(TILE, 2 * TILE), (TILE + 1, TILE)])
def test_only_of_few_channels_two_tiles_are_filled(inputs: int, outputs: int) -> None:
    model = chain(
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1] * 4),
        helper.make_node("Conv", ["y", "v"], ["z"], name="narrow", pads=[1] * 4),
        helper.make_node("Neg", ["z"], ["logits"], name="last"),
        w=weights(inputs, 6, 3, 3),
        v=weights(8, inputs, 3, 3),
    )
    rewritten = widen_convolutions(model)
    assert_same(rewritten, model)
    narrow = next(node for node in rewritten.graph.node if node.name == "narrow")
    assert constants(rewritten)[narrow.input[1]].shape[0] == outputs


def test_convolutions_at_the_borders_are_not_widened() -> None:
    model = chain(
        helper.make_node("Conv", ["image", "w"], ["y"], name="at_image"),
        helper.make_node("Conv", ["y", "v"], ["logits"], name="at_logits"),
        w=weights(4, 6, 1, 1),
        v=weights(4, 4, 1, 1),
    )
    assert widen_convolutions(model).graph.node == model.graph.node
