"""Batch normalisation as a depthwise convolution."""

from __future__ import annotations

from onnx import helper

from edgeunet.export.graphs.passes.batch_norm_to_conv import batch_norm_to_conv
from support.graphs import ops
from support.passes import assert_same, chain, weights


def test_batch_norm_becomes_a_depthwise_convolution() -> None:
    statistics = {name: weights(6) for name in ("scale", "bias", "mean")}
    statistics["variance"] = weights(6) ** 2
    inputs = ["x", *statistics]
    node = helper.make_node("BatchNormalization", inputs, ["logits"], name="norm", epsilon=1e-3)
    model = chain(node, **statistics)
    rewritten = batch_norm_to_conv(model)
    assert ops(rewritten) == {"Neg", "Conv"}
    assert_same(rewritten, model)
