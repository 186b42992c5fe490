"""What the passes read from a graph, and how they name what they add to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

_PART = "::"
_PLAIN = {"group": 1, "strides": [1, 1], "dilations": [1, 1]}


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes that the node states, without ONNX's defaults."""
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def is_plain_conv(node: onnx.NodeProto) -> bool:
    """Whether it is a Conv of one group, with stride and dilation 1."""
    given = attributes(node)
    return node.op_type == "Conv" and all(given.get(k, v) == v for k, v in _PLAIN.items())


def constants(model: onnx.ModelProto) -> dict[str, npt.NDArray[np.float32]]:
    """Initialisers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def map_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, int, int]]:
    """(C, H, W) of every feature map whose size is fixed, by name."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim[1:])
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    return {name: shape for name, shape in shapes.items() if len(shape) == 3 and all(shape)}


def readers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """Nodes that read a tensor, by its name; the graph's outputs are not among them."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in dict.fromkeys(node.input):
            found.setdefault(name, []).append(node)
    return found


def needed_for(output: str, model: onnx.ModelProto) -> set[str]:
    """Names of the tensors that an output is computed from, itself included."""
    needed = {output}
    for node in reversed(model.graph.node):  # sorted by the ONNX standard
        if needed & set(node.output):
            needed |= set(node.input)
    return needed


def part(node: onnx.NodeProto, name: str) -> str:
    """Name for a node or a tensor that a pass makes out of `node`."""
    return f"{node.name}{_PART}{name}"


def origin(name: str) -> str:
    """Name of the node that a node was made out of, itself where it is no `part`."""
    return name.split(_PART)[0]


def rebuilt(
    model: onnx.ModelProto,
    nodes: Iterable[onnx.NodeProto],
    initializers: Mapping[str, npt.NDArray[np.generic]],
) -> onnx.ModelProto:
    """The model with these nodes instead of its own, and initialisers beside its own."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    del out.graph.node[:], out.graph.value_info[:]
    out.graph.node.extend(nodes)
    out.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(values), name)
        for name, values in initializers.items()
    )
    return out
