"""BatchNormalization -> depthwise 1x1 convolution."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from .graph import attributes, constants, part, rebuilt


def batch_norm_to_conv(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite every BatchNormalization, (x - mean) * scale / sqrt(variance + epsilon) + bias.

    The exporter folds those that follow a convolution; the others, in front of one or behind an
    Add, have no INT8 kernel in ONNX Runtime. Afterwards the graph holds none.
    """
    values = constants(model)
    nodes: list[onnx.NodeProto] = []
    initializers: dict[str, npt.NDArray[np.generic]] = {}
    for node in model.graph.node:
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        scale, bias, mean, variance = (values[name] for name in node.input[1:5])
        slope = scale / np.sqrt(variance + np.float32(attributes(node).get("epsilon", 1e-5)))
        weight_name, bias_name = part(node, "weight"), part(node, "bias")
        initializers[weight_name] = slope.reshape(-1, 1, 1, 1)
        initializers[bias_name] = bias - mean * slope
        inputs = [node.input[0], weight_name, bias_name]
        nodes.append(
            helper.make_node(
                "Conv",
                inputs,
                list(node.output),
                name=node.name,
                kernel_shape=[1, 1],
                group=len(slope),
            )
        )
    return rebuilt(model, nodes, initializers)
