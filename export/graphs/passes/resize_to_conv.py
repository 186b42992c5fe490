"""Bilinear 2x upsampling -> repeated pixels and a depthwise convolution."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from .graph import Chain, attributes, constants, map_shapes, rebuilt, spread

# Weights of the rows above, here and below, after every row was repeated; and of the columns to the
# left, here and to the right, for the left and for the right one of two new columns.
_ROWS = [0.25, 0.5, 0.25]
_COLUMNS = [[0.25, 0.75, 0], [0, 0.75, 0.25]]


def resize_to_conv(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite every Resize that doubles both sides of a map of fixed size, half-pixel bilinear.

    Rows are repeated, for their new neighbours differ; of the columns, two new ones are computed
    as channels of an old one, as in `widen_convolutions`. ONNX Runtime's Resize took four times as
    long on bytes as on floats; on floats, all pixels are turned to them before and back behind it.
    """
    shapes, values = map_shapes(model), constants(model)
    nodes: list[onnx.NodeProto] = []
    initializers: dict[str, npt.NDArray[np.generic]] = {}
    for node in model.graph.node:
        shape = shapes.get(node.input[0]) if _doubles(node, values) else None
        if shape is None:
            nodes.append(node)
            continue
        chain = _upsampled(node, shape)
        nodes += chain.nodes
        initializers |= chain.constants
    return rebuilt(model, nodes, initializers)


def _doubles(node: onnx.NodeProto, values: dict[str, npt.NDArray[np.float32]]) -> bool:
    if node.op_type != "Resize" or len(node.input) != 3:  # a fourth is a size instead of scales
        return False
    given = attributes(node)
    half_pixel = given.get("coordinate_transformation_mode", b"half_pixel") == b"half_pixel"
    bilinear = half_pixel and given.get("mode") == b"linear"
    return bilinear and values[node.input[2]].tolist() == [1, 1, 2, 2]


def _upsampled(node: onnx.NodeProto, shape: tuple[int, int, int]) -> Chain:
    channels, height, width = shape
    # The border is repeated once more, as a Resize does.
    rows = np.pad(np.arange(height).repeat(2), 1, "edge")
    columns = np.pad(np.arange(width), 1, "edge").repeat(2)
    kernels = np.array([np.outer(_ROWS, weights) for weights in _COLUMNS], np.float32)
    chain = Chain(node, node.input[0])
    chain.add("Transpose", "source_channels_last", perm=[0, 2, 3, 1])
    chain.add("Gather", "source_columns", columns, axis=2)
    chain.add("Gather", "source_rows", rows, axis=1)
    chain.add("Reshape", "source_twice", [-1, len(rows), width + 2, 2 * channels])
    chain.add("Transpose", "source_channels_first", perm=[0, 3, 1, 2])
    weight = kernels[:, None].repeat(channels, axis=0)  # (2C, 1, 3, 3)
    chain.add("Conv", "weighted", weight, kernel_shape=[3, 3], group=2 * channels)
    spread(chain, node.output[0], shape=(channels, 2 * height, 2 * width), block=(1, 2))
    return chain
