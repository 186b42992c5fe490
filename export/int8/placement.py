"""Which nodes of the reference graph run in INT8."""

from __future__ import annotations

import onnx_ir as ir

from ..graphs.passes.graph import nodes_for, producer, reads_image

_OPS = ("Conv", "Add", "BatchNormalization", "Concat", "DepthToSpace", "MaxPool", "Mul", "Resize")


def int8_nodes(model: ir.Model) -> list[str]:
    """Names of the nodes that run in INT8 unless it costs too much accuracy.

    These stay float: nodes at the image, nodes behind the last convolutions, and the gate.

    - The first convolution has three input channels and sees every bit of the frame. An image
      rounded to 256 levels of its whole range costs more agreement than all other layers together
      (measured on CamVid), and so few channels gain nothing in INT8.
    - The last convolution reads INT8, but its sums stay float: 256 levels over the range of all
      logits are too coarse for the argmax at a boundary.
    - The gate's presence is compared with a threshold, and its one convolution, at the coarsest
      level, costs next to nothing.
    """
    logits = model.graph.outputs[0]
    needed = nodes_for(logits)
    return [
        str(node.name)
        for node in model.graph
        if node.op_type in _OPS
        and not reads_image(node)
        and (logits not in node.outputs or node.op_type == "Conv")
        and node in needed
    ]


def tensorrt_nodes(model: ir.Model) -> list[str]:
    """Those of `int8_nodes` that TensorRT runs in INT8, and faster for it.

    Not a Resize: TensorRT wants it in front of the Q/DQ pair that the next convolution reads. Not
    the Mul of a SiLU: TensorRT fuses it with the Sigmoid if no pair stands between the two. Not a
    BatchNormalization: TensorRT fuses it with what stands before it.
    """
    floats = {
        node.name
        for node in model.graph
        if node.op_type in ("BatchNormalization", "Resize")
        or (node.op_type == "Mul" and _is_silu(node))
    }
    return [name for name in int8_nodes(model) if name not in floats]


def _is_silu(mul: ir.Node) -> bool:
    """Whether a Mul multiplies a value with the Sigmoid of the same value."""
    sigmoids = (producer(value, "Sigmoid") for value in mul.inputs)
    return any(node is not None and node.inputs[0] in mul.inputs for node in sigmoids)
