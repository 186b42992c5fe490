"""Small graphs for the passes, and the comparison of a graph with its rewritten form."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from support.graphs import Array, run

SHAPE = (6, 4, 8)  # C, H, W


def chain(*nodes: onnx.NodeProto, **constants: Array) -> onnx.ModelProto:
    """Model from `image` (N, 6, 4, 8) to the last node's output, through a first Einsum.

    It stands for any product, for passes leave the first and the last one in float.
    """
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *SHAPE])
    nodes = (product("image", "x", "first"), *nodes)
    shape = ["n", None, None, None]
    found = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, shape)
    tensors = [
        onnx.numpy_helper.from_array(a.astype("f") if a.dtype.kind == "f" else a, name)
        for name, a in constants.items()
    ]
    graph = helper.make_graph(nodes, "chain", [image], [found], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def product(source: str, target: str, name: str) -> onnx.NodeProto:
    """A product of the values themselves alone."""
    return helper.make_node("Einsum", [source], [target], name=name, equation="nchw->nchw")


def images(batch: int = 2) -> Array:
    return np.random.default_rng(1).normal(size=(batch, *SHAPE)).astype(np.float32)


def weights(*shape: int) -> Array:
    return np.random.default_rng(2).normal(size=shape).astype(np.float32)


def resized(
    shape: tuple[int | None, ...], *, scales: tuple[float, ...] = (1, 1, 2, 2), **settings: str
) -> onnx.ModelProto:
    """Model of one Resize, by default bilinear to twice the size."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *shape])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", None, None, None])
    inputs = ["image", "", "scales"]
    node = helper.make_node(
        "Resize", inputs, ["logits"], name="up", **{"mode": "linear"} | settings
    )
    tensors = [onnx.numpy_helper.from_array(np.float32(scales), "scales")]
    graph = helper.make_graph([node], "resized", [image], [logits], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def assert_same(rewritten: onnx.ModelProto, model: onnx.ModelProto) -> None:
    onnx.checker.check_model(rewritten, full_check=True)
    wanted = run(model, images())[0]
    np.testing.assert_allclose(run(rewritten, images())[0], wanted, rtol=1e-5, atol=1e-5)


def weight_shape(model: onnx.ModelProto, node: onnx.NodeProto) -> tuple[int, ...]:
    return next(tuple(t.dims) for t in model.graph.initializer if t.name == node.input[1])


def rewritten_by(rewrite: ir.passes.PassBase, model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model, with shapes inferred, after a pass."""
    inferred = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    return ir.to_proto(rewrite(inferred).model)


def assert_left_alone(
    rewrite: ir.passes.PassBase, model: onnx.ModelProto, image: Array | None
) -> None:
    """The same nodes, and the same outputs; image: None if ONNX Runtime does not run the model."""
    found = rewritten_by(rewrite, model)
    nodes = [
        [(node.name, node.op_type, list(node.input), list(node.output)) for node in m.graph.node]
        for m in (found, model)
    ]
    assert nodes[0] == nodes[1]
    if image is not None:
        for output, wanted in zip(run(found, image), run(model, image), strict=True):
            np.testing.assert_array_equal(output, wanted)


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
