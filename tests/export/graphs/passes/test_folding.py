"""Shapes that the input's size decides become constants."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional

from edgeunet.exporting.graphs.passes import Clean, FoldShapes, Prepare
from support.foreign_nets import traced
from support.graphs import ops, run


class Skips(nn.Module):
    """Borders, a pool and a Resize of which each is computed from the size of another map."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        fine = functional.relu(self.norm(self.down(image)))
        coarse = functional.interpolate(fine, scale_factor=0.5)
        pooled = functional.adaptive_avg_pool2d(coarse, 1).view(image.shape[0], -1, 1, 1)
        coarse = functional.interpolate(
            coarse + pooled, size=fine.shape[2:], mode="bilinear", align_corners=False
        )
        rows, columns = (
            wide - narrow for wide, narrow in zip(image.shape[2:], fine.shape[2:], strict=True)
        )
        joined = functional.pad(torch.cat([fine, coarse], 1), [0, columns, 0, rows])
        return self.head(joined)


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    return ir.to_proto(Prepare()(ir.from_proto(model)).model)


@settings(max_examples=8, deadline=None)
@given(height=st.integers(9, 40), width=st.integers(9, 40))
def test_nothing_but_the_batch_is_left_open(height: int, width: int) -> None:
    model = traced(Skips(), height, width)
    found = prepared(model)
    assert "Shape" in ops(model)
    assert not ops(found) & {"Shape", "Gather", "Slice", "Cast", "ConstantOfShape", "Unsqueeze"}
    image = np.random.default_rng(0).normal(size=(3, 3, height, width)).astype(np.float32)
    np.testing.assert_allclose(run(found, image)[0], run(model, image)[0], atol=1e-5)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in onnx.shape_inference.infer_shapes(found, strict_mode=True).graph.value_info
    }
    constants = {tensor.name for tensor in found.graph.initializer}
    for node in found.graph.node:
        for name in node.output:
            assert name == "logits" or all(shapes[name][1:])
        if node.op_type == "Resize":
            assert len(node.input) == 3
            assert node.input[2] in constants


def resize_to(before: int, after: int) -> onnx.ModelProto:
    """A Resize of 3 rows of `before` columns to sizes that name the batch."""
    nodes = [
        helper.make_node("Shape", ["image"], ["batch"], end=2),
        helper.make_node("Concat", ["batch", "target"], ["sizes"], axis=0),
        helper.make_node(
            "Resize", ["image", "", "", "sizes"], ["logits"], mode="linear", name="up"
        ),
    ]
    ends = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 3, before]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1, 3, after]),
    ]
    target = onnx.numpy_helper.from_array(np.array([3, after]), "target")
    graph = helper.make_graph(nodes, "resize", ends[:1], ends[1:], [target])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@settings(max_examples=40, deadline=None)
@given(before=st.integers(1, 900), after=st.integers(1, 900))
def test_scales_give_the_sizes_that_they_replace(before: int, after: int) -> None:
    model = resize_to(before, after)
    found = prepared(model)
    assert [node.op_type for node in found.graph.node] == ["Resize"]
    onnx.shape_inference.infer_shapes(found, strict_mode=True)
    image = np.random.default_rng(0).normal(size=(2, 1, 3, before)).astype(np.float32)
    np.testing.assert_allclose(run(found, image)[0], run(model, image)[0], atol=2e-3)


def test_what_depends_on_the_batch_stays() -> None:
    nodes = [
        helper.make_node("Shape", ["image"], ["sizes"]),
        helper.make_node("Cast", ["sizes"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers"], ["total"], keepdims=0),
        helper.make_node("Add", ["image", "total"], ["logits"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2, 2, 2])
        for name in ("image", "logits")
    ]
    graph = helper.make_graph(nodes, "sums", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = prepared(model)
    for batch in (1, 4):
        image = np.zeros((batch, 2, 2, 2), np.float32)
        np.testing.assert_array_equal(run(found, image)[0], run(model, image)[0])
    assert run(found, np.zeros((4, 2, 2, 2), np.float32))[0].max() == 10


def test_random_numbers_and_large_results_are_not_folded() -> None:
    nodes = [
        helper.make_node("RandomNormal", [], ["noise"], shape=[2]),
        helper.make_node("ConstantOfShape", ["large"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["noise", "nothing"], ["sum"]),
        helper.make_node("Add", ["image", "sum"], ["logits"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2])
        for name in ("image", "logits")
    ]
    large = onnx.numpy_helper.from_array(np.array([1 << 19]), "large")
    graph = helper.make_graph(nodes, "noise", ends[:1], ends[1:], [large])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    loaded = ir.from_proto(model)
    ir.passes.Sequential(Clean(), FoldShapes(), Clean())(loaded)
    assert {"RandomNormal", "ConstantOfShape"} <= {node.op_type for node in loaded.graph}
