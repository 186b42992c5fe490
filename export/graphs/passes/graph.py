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


class Chain:
    """Nodes from `source` on, and the constants that they read, as they are added.

    Args:
        node: that the new ones are made out of, see `graph.part`.
    """

    def __init__(self, node: onnx.NodeProto, source: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, npt.NDArray[np.generic]] = {}
        self.output = source
        self._node = node

    def add(
        self, op: str, name: str, *constants: npt.ArrayLike, output: str = "", **settings: Any
    ) -> None:
        """Append a node that reads the output so far, then the constants.

        Args:
            constants: whole numbers become INT64, as sizes and indices have to be.
            output: the tensor's name; by default one made of `name`.
        """
        node = part(self._node, name)
        inputs = [self.output]
        for index, values in enumerate(constants):
            inputs.append(f"{node}_constant{index}")
            whole = np.issubdtype(np.asarray(values).dtype, np.integer)
            self.constants[inputs[-1]] = np.asarray(values, np.int64 if whole else np.float32)
        self.output = output or f"{node}_output"
        self.nodes.append(helper.make_node(op, inputs, [self.output], name=node, **settings))


def spread(
    chain: Chain, target: str, *, shape: tuple[int, int, int], block: tuple[int, int]
) -> None:
    """Append nodes (N, rows * columns * C, H / rows, W / columns) -> (N, C, H, W).

    Source channel (row * columns + column) * C + c is channel c of a pixel at that place in the
    block. With channels last, as ONNX Runtime computes in INT8, the outer Transposes cancel
    against the convolutions' own; columns are then only counted differently, and rows are moved
    in runs of columns * C values.

    Args:
        shape: (C, H, W) of the target. block: (rows, columns).
    """
    (channels, height, width), (rows, columns) = shape, block
    chain.add("Transpose", "channels_last", perm=[0, 2, 3, 1])
    if rows > 1:
        runs = [-1, width // columns, rows, columns * channels]
        chain.add("Reshape", "rows", runs)
        chain.add("Transpose", "interleaved", perm=[0, 2, 1, 3])
    chain.add("Reshape", "columns", [-1, height, width, channels])
    chain.add("Transpose", "channels_first", output=target, perm=[0, 3, 1, 2])
