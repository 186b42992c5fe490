"""The last convolution, of more than one pixel, -> transposed convolution."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from .graph import attributes, constants, is_plain_conv, part, rebuilt


def transpose_head(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite the convolution that puts out the graph's first output, if its kernel is square.

    With stride 1 and the kernel turned round both are the same sums. The head stays float, and for
    the few channels of as many classes ONNX Runtime's float convolution is slow: 3x3 from 40
    channels to 3 took 2.8 times as long as this form. 1x1 kernels are left alone.
    """
    nodes = list(model.graph.node)
    at = next(i for i, node in enumerate(nodes) if model.graph.output[0].name in node.output)
    node = nodes[at]
    if not is_plain_conv(node):
        return model
    weight = constants(model)[node.input[1]]  # (O, I, k, k)
    size = weight.shape[2]
    pads = {int(pad) for pad in np.atleast_1d(attributes(node).get("pads", 0))}
    if size == 1 or weight.shape[3] != size or len(pads) > 1 or max(pads) >= size:
        return model
    name = part(node, "weight")
    nodes[at] = helper.make_node(
        "ConvTranspose",
        [node.input[0], name, *node.input[2:]],
        list(node.output),
        name=node.name,
        kernel_shape=[size, size],
        pads=[size - 1 - max(pads)] * 4,
    )
    return rebuilt(model, nodes, {name: weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]})
