"""Which nodes of the reference graph run in INT8."""

from __future__ import annotations

import onnx

from ..graphs.passes.graph import needed_for

_OPS = ("Conv", "Add", "BatchNormalization", "Concat", "DepthToSpace", "MaxPool", "Mul", "Resize")


def int8_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that run in INT8 where nothing speaks against it.

    Float stay those at the image, those behind the last convolutions, and the gate. The first
    convolution has three input channels and sees every bit of the frame: an image rounded to
    256 levels of its whole range costs more agreement than all other layers together (measured
    on CamVid), and so few channels gain nothing in INT8. The last convolution takes INT8, but
    its sums stay float, for 256 levels over the range of all logits are coarser than what
    decides the argmax at a boundary. The gate's presence is compared with a threshold, and its
    one convolution, at the coarsest level, costs next to nothing.
    """
    logits = model.graph.output[0].name
    needed = needed_for(logits, model)
    inputs = {value.name for value in model.graph.input}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in _OPS
        and not inputs & set(node.input)
        and (logits not in node.output or node.op_type == "Conv")
        and needed & set(node.output)
    ]


def tensorrt_nodes(model: onnx.ModelProto) -> list[str]:
    """Those of `int8_nodes` that TensorRT takes in INT8 and gains by.

    Not a Resize, which it wants in front of the Q/DQ pair that the next convolution reads, nor the
    Mul of a SiLU, which it fuses with the Sigmoid where no pair stands between the two, nor a
    BatchNormalization, which it fuses with what stands before it.
    """
    nodes = model.graph.node
    activated = {node.output[0]: node.input[0] for node in nodes if node.op_type == "Sigmoid"}
    floats = {
        node.name
        for node in nodes
        if node.op_type in ("BatchNormalization", "Resize")
        or (node.op_type == "Mul" and any(activated.get(n) in node.input for n in node.input))
    }
    return [name for name in int8_nodes(model) if name not in floats]
