"""Conditions that passes check before and after."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeunet.export.graphs.passes import ResizeInFloat, ResizeToConv


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


def test_a_pass_that_reads_shapes_refuses_a_model_without_any() -> None:
    model = ir.from_proto(paired())
    with pytest.raises(ir.passes.PreconditionError, match="Run onnx's shape inference"):
        ResizeToConv()(model)


def test_a_pass_that_leaves_what_it_should_rewrite_is_an_error() -> None:
    class Idle(ResizeInFloat):
        def rewrite(self, node: ir.Node) -> None:
            pass

    with pytest.raises(ir.passes.PostconditionError, match="Idle left "):
        Idle()(ir.from_proto(paired()))
