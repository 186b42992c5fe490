"""A Resize reads what stands before the Q/DQ pair."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeunet.export.graphs.passes.resize_in_float import resize_in_float
from support.graphs import run


def paired() -> onnx.ModelProto:
    """A pair whose result a Resize and a Relu read; their sum is the output."""
    constants = [
        numpy_helper.from_array(np.float32(0.5), "scale"),
        numpy_helper.from_array(np.int8(0), "zero"),
        numpy_helper.from_array(np.array([1, 1, 1, 1], np.float32), "once"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["rounded"]),
        helper.make_node("Relu", ["rounded"], ["positive"]),
        helper.make_node("Resize", ["rounded", "", "once"], ["same"]),
        helper.make_node("Resize", ["positive", "", "once"], ["other"]),
        helper.make_node("Concat", ["same", "other"], ["logits"], axis=1),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 2, 2])
        for name, channels in (("image", 1), ("logits", 2))
    ]
    graph = helper.make_graph(nodes, "paired", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_resize_reads_what_stands_before_the_pair() -> None:
    before = paired()
    after = resize_in_float(before)
    image = np.array([[[[0.3, -0.6], [1.1, 2.0]]]], np.float32)
    (old,), (new,) = run(before, image), run(after, image)
    np.testing.assert_array_equal(new[:, :1], image)  # unrounded
    assert not np.array_equal(old[:, :1], image)
    np.testing.assert_array_equal(new[:, 1:], old[:, 1:])  # other readers, other Resizes
    assert [n.input[0] for n in after.graph.node if n.op_type == "Resize"] == ["image", "positive"]
    assert before == paired(), "the given model stays as it is"
