"""Removal of what computes nothing."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgeunet.export.graphs.passes.clean import clean
from support.graphs import ops, run


def test_clean_removes_what_computes_nothing() -> None:
    nodes = [
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32(2))),
        helper.make_node("Identity", ["two"], ["also_two"]),
        helper.make_node("Mul", ["image", "also_two"], ["logits"]),
        helper.make_node("Neg", ["image"], ["nobody_reads_this"]),
    ]
    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3])
        for name in ("image", "logits")
    ]
    unused = numpy_helper.from_array(np.zeros(3, np.float32), "unused")
    graph = helper.make_graph(nodes, "waste", value[:1], value[1:], [unused])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    cleaned = clean(model)
    assert ops(cleaned) == {"Mul"}
    assert len(cleaned.graph.initializer) == 1
    image = np.float32([[1, 2, 3]])
    np.testing.assert_array_equal(run(cleaned, image)[0], 2 * image)
