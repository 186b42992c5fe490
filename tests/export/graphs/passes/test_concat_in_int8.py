"""A Concat that joins bytes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeunet.export.graphs.passes.concat_in_int8 import concat_in_int8
from support.graphs import run


def joined(*, second: float, third: float, reads_pair: bool = False) -> onnx.ModelProto:
    """Concat of two dequantized maps, quantized again; the scales of the three pairs."""
    names = ("a", "b", "c")
    scales = dict(zip((f"{name}_scale" for name in names), (0.5, second, third), strict=True))
    pair = [
        helper.make_node("QuantizeLinear", ["image", f"{name}_scale", "zero"], [f"{name}_q"])
        for name in "ab"
    ]
    pair += [
        helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_scale", "zero"], [name])
        for name in "ab"
    ]
    nodes = [
        *pair,
        helper.make_node("Concat", ["a", "b"], ["c"], axis=1),
        helper.make_node("QuantizeLinear", ["c", "c_scale", "zero"], ["c_q"]),
        helper.make_node("DequantizeLinear", ["c_q", "c_scale", "zero"], ["logits"]),
    ]
    outputs = ["logits"]
    if reads_pair:
        nodes.append(helper.make_node("Neg", ["a"], ["beside"]))
        outputs.append("beside")
    shape = ["n", None, 2, 2]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in outputs]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 2, 2])
    tensors = [onnx.numpy_helper.from_array(np.float32(v), n) for n, v in scales.items()]
    tensors.append(onnx.numpy_helper.from_array(np.uint8(100), "zero"))
    graph = helper.make_graph(nodes, "joined", [image], values, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("reads_pair", [True, False])
def test_concat_of_one_scale_joins_bytes(reads_pair: bool) -> None:
    model = joined(second=0.5, third=0.5, reads_pair=reads_pair)
    rewritten = concat_in_int8(model)
    onnx.checker.check_model(rewritten, full_check=True)
    kinds = Counter(node.op_type for node in rewritten.graph.node)
    assert kinds["QuantizeLinear"] == 2
    assert kinds["DequantizeLinear"] == 2 if reads_pair else 1
    image = np.random.default_rng(0).normal(scale=20, size=(2, 3, 2, 2)).astype("f")
    for found, wanted in zip(run(rewritten, image), run(model, image), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("second", "third"), [(0.25, 0.5), (0.5, 0.25)])
def test_concat_of_two_scales_is_left_alone(second: float, third: float) -> None:
    model = joined(second=second, third=third)
    assert concat_in_int8(model) == model


def test_concat_whose_output_stays_float_is_left_alone() -> None:
    model = joined(second=0.5, third=0.5)
    del model.graph.node[-2:]
    model.graph.node[-1].output[0] = "logits"
    assert concat_in_int8(model) == model
