"""Which nodes of the reference graph run in INT8."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from ..graphs.passes.convolutions import end_of_conv
from ..graphs.passes.graph import (
    is_head,
    nodes_behind_heads,
    nodes_for,
    origin,
    producer,
    reads_image,
)
from ..graphs.passes.phases import doubles_map
from ..graphs.passes.upsampling import is_bilinear

_OPS = ("Conv", "Add", "BatchNormalization", "Concat", "DepthToSpace", "MaxPool", "Mul", "Resize")

_NORMALISATIONS = ("GroupNormalization", "InstanceNormalization")

# What they put out is as fit for INT8 as what they read.
_PASSED = (
    "AveragePool",
    "Clip",
    "ConvTranspose",
    "Elu",
    "Expand",
    "Flatten",
    "Gather",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "PRelu",
    "Pad",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)


def int8_nodes(model: ir.Model) -> list[str]:
    """Names of the nodes that run in INT8 unless it costs too much accuracy.

    These stay float: the first convolution on each way from the image and what is before it, what
    is behind the last convolutions, and the gate.

    - The first convolution has three input channels and sees every bit of the frame. An image
      rounded to 256 levels of its whole range costs more agreement than all other layers together
      (measured on CamVid), and so few channels gain nothing in INT8.
    - The last convolutions read INT8, but their sums stay float: 256 levels over the range of all
      logits are too coarse for the argmax at a boundary.
    - The gate's presence is compared with a threshold, and its one convolution, at the coarsest
      level, costs next to nothing.
    """
    needed = nodes_for(model.graph.outputs[0]) - nodes_behind_heads(model.graph)
    joined = _joined_to_convolutions(model.graph)
    return [
        str(node.name)
        for node in model.graph
        if node in needed and node in joined and not reads_image(node)
    ]


def _joined_to_convolutions(graph: ir.Graph) -> set[ir.Node]:
    """Nodes with INT8 kernels that read only what convolutions, or such nodes, put out.

    Between float nodes, as in a transformer's block or a GELU, a sum in INT8 would only be rounded.
    A factor and a summand for each channel behind a normalisation are a part of it. A Concat that
    only convolutions read joins bytes: its result would be rounded all the same.
    """
    found: set[ir.Node] = set()
    joined: set[ir.Value] = set()
    normalised: set[ir.Value] = set()
    for node in graph:  # sorted
        read = [v for v in node.inputs if v is not None and v.const_value is None]
        inside = bool(read) and joined.issuperset(read)
        if node.op_type in ("Add", "Mul") and len(read) == 1 and read[0] in normalised:
            normalised.update(node.outputs)
        elif (
            node.op_type == "Conv"
            or (inside and node.op_type in _OPS)
            or doubles_map(node)
            or _feeds_convolutions(node)
        ):
            found.add(node)
        elif node.op_type in _NORMALISATIONS:
            normalised.update(node.outputs)
        elif not inside or node.op_type not in _PASSED:
            continue
        elif node.op_type == "Reshape" and normalised.issuperset(read):
            normalised.update(node.outputs)
        joined.update(node.outputs)
    return found


def _feeds_convolutions(node: ir.Node) -> bool:
    """Whether a node is a Concat that only convolutions read."""
    readers = {reader.op_type for reader in node.outputs[0].consumers()}
    return node.op_type == "Concat" and readers == {"Conv"}


def tensorrt_nodes(model: ir.Model) -> list[str]:
    """Those of `int8_nodes` that TensorRT runs in INT8, and faster for it.

    Not a ConvTranspose: its INT8 kernels are slower than those for FP16 in several releases. Not a
    Resize: TensorRT wants it in front of the Q/DQ pair that the next convolution reads. Not the Mul
    of a SiLU: TensorRT fuses it with the Sigmoid if no pair stands between the two. Not a
    BatchNormalization: TensorRT fuses it with what stands before it.
    """
    floats = {
        node.name
        for node in model.graph
        if node.op_type in ("BatchNormalization", "ConvTranspose", "Resize")
        or (node.op_type == "Mul" and _is_silu(node))
    }
    return [name for name in int8_nodes(model) if name not in floats]


def openvino_nodes(model: ir.Model) -> list[str]:
    """Those of `int8_nodes` that OpenVINO runs in INT8, and faster for it.

    Not a Mul: behind a Sigmoid it is a SiLU, which fuses with the convolution in front if no pair
    stands between the two, and takes a quarter of Eff-UNet's time else. With a gate for each
    channel it fuses too. Not a BatchNormalization: it fuses with the Relu and the pair behind it.
    Not a sum that only bilinear Resizes read: these run in float, and all would be converted twice.
    """
    floats = {
        n.name
        for n in model.graph
        if n.op_type in ("BatchNormalization", "Mul") or _is_resized_sum(n)
    }
    return [name for name in int8_nodes(model) if name not in floats]


def _is_resized_sum(node: ir.Node) -> bool:
    readers = node.outputs[0].consumers()
    return node.op_type == "Add" and bool(readers) and all(is_bilinear(each) for each in readers)


def convolutions_with_sums(model: ir.Model, chosen: Collection[str]) -> list[str]:
    """First convolutions that OpenVINO runs in INT8: of a residual block that reads the image.

    `int8_nodes` leaves them in float. But if one puts out what a chosen sum reads, the sum would be
    float as well, and the block's maps, which are the largest ones, would be converted three times:
    an eighth of ResUNet's time. All that read the same image take part, since that has bytes then.
    """
    first = [node for node in model.graph if node.op_type == "Conv" and reads_image(node)]
    images = {
        node.inputs[0]
        for node in first
        if any(r.op_type == "Add" and r.name in chosen for r in node.outputs[0].consumers())
    }
    return [str(node.name) for node in first if node.inputs[0] in images]


def _is_silu(mul: ir.Node) -> bool:
    """Whether a Mul multiplies a value with the Sigmoid of the same value."""
    sigmoids = (producer(value, "Sigmoid") for value in mul.inputs)
    return any(node is not None and node.inputs[0] in mul.inputs for node in sigmoids)


def outputs_before_float(model: ir.Model, chosen: Collection[str]) -> list[str]:
    """Outputs of chosen convolutions whose readers have no INT8 form; the CPU quantizes them.

    ONNX Runtime runs a convolution in INT8 only if its output is quantized too. The sums of the
    last convolutions, and those for a Sigmoid, stay float.
    """
    found, possible = [], set(int8_nodes(model))
    for node in model.graph:
        convolves = node.op_type in ("Conv", "ConvTranspose")
        if not convolves or node.name not in chosen or is_head(node):
            continue
        output = end_of_conv(node).outputs[0]
        readers = {reader.op_type for reader in output.consumers() if reader.name not in possible}
        if readers - {"HardSigmoid", "Sigmoid", "Softmax", "Transpose"}:
            found.append(str(output.name))
    return found


def float_convolutions(
    model: ir.Model, parts: Collection[str], possible: Collection[str], outputs: Collection[str]
) -> list[ir.Node]:
    """Convolutions among the nodes `parts` that ONNX Runtime computes in float in any case.

    Those without an INT8 kernel, and those whose sums nobody quantizes: they are not among
    `outputs`, and what reads them came from none of the nodes `possible`, see `int8_nodes`.
    """
    found = []
    for node in model.graph:
        if node.name not in parts or node.op_type not in ("Conv", "ConvTranspose"):
            continue
        output = end_of_conv(node).outputs[0]
        read = any(origin(reader.name) in possible for reader in output.consumers())
        if node.op_type == "ConvTranspose" or not (read or output.name in outputs):
            found.append(node)
    return found


def float_resizes(model: ir.Model, parts: Collection[str]) -> list[ir.Node]:
    """Resizes among the nodes `parts` that ONNX Runtime is slower with in INT8: bilinear ones."""
    return [node for node in model.graph if node.name in parts and is_bilinear(node)]
