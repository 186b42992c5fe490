"""ONNX graphs that keep the values of one tensor in another file, at each place that has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, SparseTensorProto, TensorProto, helper, numpy_helper


def external(name: str = "weights", location: str = "../../secret") -> TensorProto:
    """A tensor whose values are those of a file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def inside(name: str = "kernel") -> TensorProto:
    """A tensor that has its values."""
    return numpy_helper.from_array(np.arange(4, dtype=np.float32), name)


def model_of(*nodes: onnx.NodeProto, initializers: tuple[TensorProto, ...] = ()) -> onnx.ModelProto:
    """`image` (4,) -> Add -> `logits`, with more nodes and tensors."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["image", "kernel"], ["logits"], name="add"), *nodes],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [4])],
        [inside(), *initializers],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _node(*attributes: AttributeProto) -> onnx.NodeProto:
    node = helper.make_node("Constant", [], ["unused"])
    node.attribute.extend(attributes)
    return node


def _sparse(**tensors: TensorProto) -> SparseTensorProto:
    whole = {"values": inside("v"), "indices": inside("i"), **tensors}
    return SparseTensorProto(dims=[4], **whole)


def _branch(levels: int = 1) -> onnx.ModelProto:
    """Subgraphs inside each other, the innermost with the tensor."""
    graph = GraphProto(name="innermost", initializer=[external()])
    for level in range(levels):
        node = helper.make_node("If", ["condition"], ["chosen"], then_branch=graph)
        graph = helper.make_graph([node], f"branch{level}", [], [])
    return model_of(helper.make_node("If", ["condition"], ["chosen"], then_branch=graph))


def _list_of_graphs() -> onnx.ModelProto:
    graph = GraphProto(name="inner", initializer=[external()])
    return model_of(_node(helper.make_attribute("bodies", [graph])))


def _sparse_initializer(**tensors: TensorProto) -> onnx.ModelProto:
    model = model_of()
    model.graph.sparse_initializer.append(_sparse(**tensors))
    return model


def _training(part: str) -> onnx.ModelProto:
    model = model_of()
    getattr(model.training_info.add(), part).initializer.append(external())
    return model


def _location_alone() -> onnx.ModelProto:
    tensor = external()
    del tensor.external_data[:]
    return model_of(initializers=(tensor,))


def _file_alone() -> onnx.ModelProto:
    tensor = external()
    tensor.ClearField("data_location")
    return model_of(initializers=(tensor,))


PLACES: dict[str, Callable[[], onnx.ModelProto]] = {
    "initializer": lambda: model_of(initializers=(external(),)),
    "location alone": _location_alone,
    "file alone": _file_alone,
    "attribute": lambda: model_of(_node(helper.make_attribute("value", external()))),
    "list of attributes": lambda: model_of(
        _node(helper.make_attribute("values", [inside(), external()]))
    ),
    "sparse values": lambda: _sparse_initializer(values=external()),
    "sparse indices": lambda: _sparse_initializer(indices=external()),
    "sparse attribute": lambda: model_of(
        _node(helper.make_attribute("sparse_value", _sparse(values=external())))
    ),
    "sparse attributes": lambda: model_of(
        _node(helper.make_attribute("values", [_sparse(), _sparse(indices=external())]))
    ),
    "subgraph": _branch,
    "deep subgraph": lambda: _branch(levels=20),
    "list of subgraphs": _list_of_graphs,
    "training, start": lambda: _training("initialization"),
    "training, step": lambda: _training("algorithm"),
}
"""Name of a place -> a model whose only external tensor is there."""


def tensors_of(message: Any) -> list[TensorProto]:
    """Every tensor inside a parsed message, found by its descriptor."""
    if isinstance(message, TensorProto):
        return [message]
    found: list[TensorProto] = []
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if hasattr(value, "__len__") else [value]:
                found += tensors_of(each)
    return found
