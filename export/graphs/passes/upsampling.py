"""Upsampling in forms that quantize everywhere."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph import Chain, MapPass, NodePass, attribute, constant, map_shape, weights

_EXACT = {"kernel_shape": (2, 2), "strides": (2, 2)}
_DEFAULTS = {"pads": (0,) * 4, "dilations": (1, 1), "group": 1, "output_padding": (0, 0)}

# Weights of the row above, this row and the row below, after every row was repeated; and of the
# column to the left, this one and the one to the right, for the left and the right new column.
_ROWS = [0.25, 0.5, 0.25]
_COLUMNS = [[0.25, 0.75, 0], [0, 0.75, 0.25]]


class DeconvToDepthToSpace(NodePass):
    """2x2 transposed convolution with stride 2 -> 1x1 convolution and DepthToSpace.

    Without padding such kernels do not overlap, so this is exact: each output pixel is one 1x1
    convolution of one input pixel, (N, I, h, w) -> (N, 4 O, h, w) -> (N, O, 2h, 2w). ONNX Runtime
    has no INT8 kernel for ConvTranspose, and TensorRT's is slower than FP16 in several releases.
    Other transposed convolutions stay.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every ConvTranspose for which the identity is exact."""
        return (
            node.op_type == "ConvTranspose"
            and all(attribute(node, name, None) == value for name, value in _EXACT.items())
            and all(attribute(node, name, value) == value for name, value in _DEFAULTS.items())
        )

    def rewrite(self, node: ir.Node) -> None:
        """The kernel's four places become output channels."""
        weight, *bias = weights(node)  # (I, O, 2, 2)
        # DepthToSpace in DCR mode reads channel (row * 2 + column) * O + o.
        kernel = weight.transpose(2, 3, 1, 0).reshape(-1, len(weight), 1, 1)
        chain = Chain(node, node.inputs[0], "_")
        tiled = (np.tile(values, 4) for values in bias)
        chain.add("Conv", "1x1", kernel, *tiled, kernel_shape=[1, 1])
        chain.add("DepthToSpace", "depth_to_space", blocksize=2, mode="DCR")
        chain.replace_node()


class ResizeToConv(MapPass):
    """Bilinear 2x upsampling -> repeated pixels and a depthwise convolution.

    Rows are repeated, for the neighbours of the two new rows differ. Of the columns, two new ones
    are computed as channels of an old one, as in `WidenConvolutions`. ONNX Runtime's Resize took
    four times as long on bytes as on floats; on floats, all pixels are converted before and after.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every Resize that doubles both sides of a map of fixed size, half-pixel bilinear."""
        if node.op_type != "Resize" or len(node.inputs) != 3:  # a fourth is a size, not scales
            return False
        scales = constant(node.inputs[2])
        return (
            attribute(node, "coordinate_transformation_mode", "half_pixel") == "half_pixel"
            and attribute(node, "mode", "nearest") == "linear"
            and scales is not None
            and scales.tolist() == [1, 1, 2, 2]
            and bool(map_shape(node.inputs[0]))
        )

    def rewrite(self, node: ir.Node) -> None:
        """The border is repeated once more, as a Resize does."""
        channels, height, width = map_shape(node.inputs[0])
        rows = np.pad(np.arange(height).repeat(2), 1, "edge")
        columns = np.pad(np.arange(width), 1, "edge").repeat(2)
        kernels = np.array([np.outer(_ROWS, weights) for weights in _COLUMNS], np.float32)
        weight = kernels[:, None].repeat(channels, axis=0)  # (2C, 1, 3, 3)
        chain = Chain(node, node.inputs[0])
        chain.add("Transpose", "source_channels_last", perm=[0, 2, 3, 1])
        chain.add("Gather", "source_columns", columns, axis=2)
        chain.add("Gather", "source_rows", rows, axis=1)
        chain.add("Reshape", "source_twice", [-1, len(rows), width + 2, 2 * channels])
        chain.add("Transpose", "source_channels_first", perm=[0, 3, 1, 2])
        chain.add("Conv", "weighted", weight, kernel_shape=[3, 3], group=2 * channels)
        chain.spread((channels, 2 * height, 2 * width), block=(1, 2))
        chain.replace_node()
