"""A read-only view of an ONNX graph: who makes and reads a tensor, constants, types."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]

ONNX_DOMAINS = ("", "ai.onnx")
"""Two names of the standard's own operators."""


class Graph:
    """What rules ask of a model. Branches of If and bodies of Loop and Scan are looked into too.

    A constant is an initialiser or what a Constant node makes, whatever the file uses.

    opset: of the standard's operators. nodes: all of them. inputs: those that are fed.
    outputs: of the model.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.opset = opset_of(model)
        graphs = list(graphs_of(model.graph))
        self.nodes = tuple(node for graph in graphs for node in graph.node)
        self._producer = {name: node for node in self.nodes for name in node.output}
        self._consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self._consumers[name].append(node)
        self._constants = {tensor.name: tensor for graph in graphs for tensor in graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and (tensor := _value(node)) is not None:
                self._constants[node.output[0]] = tensor
        self._types = {
            value.name: value.type.tensor_type
            for graph in graphs
            for value in (*graph.value_info, *graph.input, *graph.output)
        }
        self.inputs = tuple(
            value.name for value in model.graph.input if value.name not in self._constants
        )
        self.outputs = tuple(value.name for value in model.graph.output)

    def of_type(self, *op_types: str) -> Iterator[onnx.NodeProto]:
        """Nodes of these operators."""
        return (node for node in self.nodes if node.op_type in op_types)

    def producer(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, None for inputs, initialisers and ""."""
        return self._producer.get(name) if name else None

    def consumers(self, name: str) -> tuple[onnx.NodeProto, ...]:
        """The nodes that read a tensor."""
        return tuple(self._consumers.get(name, ())) if name else ()

    def is_constant(self, name: str) -> bool:
        """Whether the file itself holds the tensor."""
        return name in self._constants

    def constant(self, name: str) -> Array | None:
        """The values of a constant, None for anything else."""
        tensor = self._constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def constant_types(self) -> set[int]:
        """Element types of all constants."""
        return {tensor.data_type for tensor in self._constants.values()}

    def element_type(self, name: str) -> int:
        """A `TensorProto.DataType`; UNDEFINED where it is not known."""
        if name in self._constants:
            return int(self._constants[name].data_type)
        return int(self._types[name].elem_type) if name in self._types else TensorProto.UNDEFINED

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """Sizes, None for the dynamic ones; None where not even the rank is known."""
        if name in self._constants:
            return tuple(self._constants[name].dims)
        if name not in self._types or not self._types[name].HasField("shape"):
            return None
        dims = self._types[name].shape.dim
        return tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard's operators, 0 where the model imports none."""
    versions = (entry.version for entry in model.opset_import if entry.domain in ONNX_DOMAINS)
    return int(next(versions, 0))


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for held in node.attribute:
            for inner in (held.g, *held.graphs) if held.HasField("g") else held.graphs:
                yield from graphs_of(inner)


def operand(node: onnx.NodeProto, index: int) -> str:
    """Name of an input, "" where an optional one is left out."""
    return str(node.input[index]) if index < len(node.input) else ""


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Value of an attribute, text decoded."""
    for found in node.attribute:
        if found.name == name:
            value = helper.get_attribute_value(found)
            return value.decode() if isinstance(value, bytes) else value
    return default


def type_name(element_type: int) -> str:
    """Such as INT8."""
    return str(TensorProto.DataType.Name(element_type))


def _value(node: onnx.NodeProto) -> TensorProto | None:
    """The tensor of a Constant node, None for text and sparse values."""
    for name, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        found = attribute(node, name, None)
        if found is not None:
            return numpy_helper.from_array(np.asarray(found, dtype))
    found = attribute(node, "value", None)
    return found if isinstance(found, TensorProto) else None
