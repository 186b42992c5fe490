"""1x1 convolutions whose output stays float -> matrix products."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from .graph import Chain, attributes, constants, is_plain_conv, map_shapes, readers, rebuilt

TILE = 16
"""Columns of a matrix that ONNX Runtime's INT8 kernels for x86-64 compute at once."""


def conv_to_matmul(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite the 1x1 convolution of the first output, and those that a Sigmoid alone reads.

    ONNX Runtime multiplies 8-bit matrices into float sums, but has no such convolution: it would
    turn all pixels to float first. With channels last, neighbours are one row of the matrix, and
    the weights stand in it once for each, as many as fill the tile: 16 channels to 3 classes took
    a third of the time so.
    """
    shapes, values, read_by = map_shapes(model), constants(model), readers(model)
    logits = model.graph.output[0].name
    nodes: list[onnx.NodeProto] = []
    initializers: dict[str, npt.NDArray[np.generic]] = {}
    for node in model.graph.node:
        followers = [follower.op_type for follower in read_by.get(node.output[0], [])]
        stays_float = logits in node.output or followers == ["Sigmoid"]
        shape = shapes.get(node.output[0]) if stays_float and _is_pointwise(node, values) else None
        if shape is None:
            nodes.append(node)
            continue
        chain = _product(node, shape, values)
        nodes += chain.nodes
        initializers |= chain.constants
    return rebuilt(model, nodes, initializers)


def _is_pointwise(node: onnx.NodeProto, values: dict[str, npt.NDArray[np.float32]]) -> bool:
    if not is_plain_conv(node) or any(attributes(node).get("pads", [])):
        return False
    return values[node.input[1]].shape[2:] == (1, 1)


def _product(
    node: onnx.NodeProto,
    shape: tuple[int, int, int],
    values: dict[str, npt.NDArray[np.float32]],
) -> Chain:
    weight = values[node.input[1]][:, :, 0, 0].T  # (I, O)
    (inputs, outputs), (_, height, width) = weight.shape, shape
    neighbours = 1
    while 2 * neighbours * outputs <= TILE and width % (2 * neighbours) == 0:
        neighbours *= 2
    chain = Chain(node, node.input[0])
    chain.add("Transpose", "channels_last", perm=[0, 2, 3, 1])
    if neighbours > 1:
        joined = [-1, height, width // neighbours, neighbours * inputs]
        chain.add("Reshape", "joined", joined)
    chain.add("MatMul", "product", np.kron(np.eye(neighbours, dtype=np.float32), weight))
    chain.nodes[-1].name = node.name  # by which it is chosen for INT8, unlike what follows
    if neighbours > 1:
        chain.add("Reshape", "parted", [-1, height, width, outputs])
    chain.add("Transpose", "channels_first", perm=[0, 3, 1, 2])
    bias = values[node.input[2]] if len(node.input) > 2 else np.zeros(outputs, np.float32)
    chain.add("Add", "biased", bias.reshape(-1, 1, 1), output=node.output[0])
    return chain
