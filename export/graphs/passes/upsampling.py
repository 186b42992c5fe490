"""2x2 transposed convolution with stride 2 -> 1x1 convolution and DepthToSpace."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .graph import attributes

_EXACT = {"kernel_shape": [2, 2], "strides": [2, 2]}
_DEFAULTS = {"pads": [0] * 4, "dilations": [1, 1], "group": 1, "output_padding": [0, 0]}


def deconv_to_depth_to_space(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite every ConvTranspose for which the identity is exact; leave the others.

    Kernel and stride of 2 without padding do not overlap: each output pixel is one 1x1 convolution
    of one input pixel, (N, I, h, w) -> (N, 4 O, h, w) -> (N, O, 2h, 2w). ONNX Runtime has no INT8
    kernel for ConvTranspose, and TensorRT's is slower than FP16 in several releases.
    """
    out = onnx.ModelProto()
    out.CopyFrom(model)
    initializers = {tensor.name: tensor for tensor in out.graph.initializer}
    nodes = []
    for node in out.graph.node:
        if node.op_type != "ConvTranspose" or not _is_exact(node):
            nodes.append(node)
            continue
        weight = numpy_helper.to_array(initializers[node.input[1]])  # (I, O, 2, 2)
        in_channels, out_channels = weight.shape[:2]
        # DepthToSpace in DCR mode reads channel (row * 2 + column) * O + o.
        kernel = weight.transpose(2, 3, 1, 0).reshape(4 * out_channels, in_channels, 1, 1)
        stem = node.name or node.output[0]
        new = [numpy_helper.from_array(np.ascontiguousarray(kernel), f"{stem}.weight_1x1")]
        if len(node.input) > 2:
            bias = numpy_helper.to_array(initializers[node.input[2]])
            new.append(numpy_helper.from_array(np.tile(bias, 4), f"{stem}.bias_1x1"))
        out.graph.initializer.extend(new)
        inputs = [node.input[0], *(tensor.name for tensor in new)]
        packed = f"{node.output[0]}_packed"
        nodes.append(
            helper.make_node("Conv", inputs, [packed], name=f"{stem}_1x1", kernel_shape=[1, 1])
        )
        nodes.append(
            helper.make_node(
                "DepthToSpace",
                [packed],
                list(node.output),
                name=f"{stem}_depth_to_space",
                blocksize=2,
                mode="DCR",
            )
        )
    del out.graph.node[:]
    out.graph.node.extend(nodes)
    return out


def _is_exact(node: onnx.NodeProto) -> bool:
    given = attributes(node)
    return all(given.get(name) == value for name, value in _EXACT.items()) and all(
        given.get(name, value) == value for name, value in _DEFAULTS.items()
    )
