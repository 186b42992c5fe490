"""Rules of padding -> numbers; biases and normalisations behind convolutions -> inside them."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ..graphs.passes.graph import (
    Array,
    NodePass,
    attribute,
    constant,
    operand,
    producer,
    remove,
    set_constant,
    weights,
)

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_POOLS = ("AveragePool", "LpPool", "MaxPool")


class ExplicitPads(NodePass):
    """Padding by the rules SAME and VALID -> numbers, in maps of fixed size."""

    def matches(self, node: ir.Node) -> bool:
        """Every convolution and pooling with such a rule, or with an output size."""
        ruled = attribute(node, "auto_pad", "NOTSET") != "NOTSET"
        if node.op_type in ("Conv", *_POOLS):
            return ruled and (_rule(node) == "VALID" or bool(_size(node)))
        return (
            node.op_type == "ConvTranspose"
            and (ruled or "output_shape" in node.attributes)
            and (_rule(node) == "VALID" or bool(_size(node)))
        )

    def rewrite(self, node: ir.Node) -> None:
        """As the specifications of the operators say."""
        rule, size = _rule(node), _size(node)
        kernel = attribute(node, "kernel_shape", ()) or weights(node)[0].shape[2:]
        strides = attribute(node, "strides", (1, 1))
        dilations = attribute(node, "dilations", (1, 1))
        wanted = attribute(node, "output_shape", ())[-2:]
        extra = attribute(node, "output_padding", (0, 0))
        begin, end = [], []
        for axis in range(2 if rule != "VALID" or wanted else 0):
            extent = (kernel[axis] - 1) * dilations[axis] + 1
            if node.op_type == "ConvTranspose":
                out = wanted[axis] if wanted else size[axis] * strides[axis]
                total = strides[axis] * (size[axis] - 1) + extra[axis] + extent - out
            else:
                out = math.ceil(size[axis] / strides[axis])
                total = (out - 1) * strides[axis] + extent - size[axis]
            total = max(total, 0)
            smaller, larger = total // 2, total - total // 2
            upper = rule == "SAME_UPPER"
            begin.append(smaller if upper else larger)
            end.append(larger if upper else smaller)
        node.attributes.pop("auto_pad", None)
        node.attributes.pop("output_shape", None)
        if begin:
            node.attributes.add(ir.AttrInt64s("pads", [*begin, *end]))


def _rule(node: ir.Node) -> str:
    return str(attribute(node, "auto_pad", "NOTSET"))


def _size(node: ir.Node) -> tuple[int, ...]:
    """Height and width of the map that a node reads, () unless both are fixed."""
    value = node.inputs[0]
    sizes = () if value is None or value.shape is None else tuple(value.shape)[2:]
    fixed = tuple(size for size in sizes if isinstance(size, int))
    return fixed if len(fixed) == len(sizes) == 2 else ()


class FoldAffine(NodePass):
    """What multiplies or shifts the channels of a convolution -> its weights and bias.

    That is a BatchNormalization, an Add, a Sub or a Mul by constants of each channel, if nothing
    else reads the convolution. Torch's exporters fold the first; TensorFlow's converter writes
    biases as Adds.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every such node behind a convolution with constant weights."""
        return _folded(node) is not None

    def rewrite(self, node: ir.Node) -> None:
        """The convolution keeps its name."""
        found = _folded(node)
        assert found is not None
        conv, gain, shift = found
        kernel, *bias = weights(conv)
        if conv.op_type == "Conv":
            scaled = kernel * gain.reshape(-1, 1, 1, 1)
        else:  # (I, O / groups, k, k)
            groups = attribute(conv, "group", 1)
            parts = np.split(kernel, groups)
            gains = np.split(gain, groups)
            pairs = zip(parts, gains, strict=True)
            scaled = np.concatenate([part * each.reshape(1, -1, 1, 1) for part, each in pairs])
        moved = shift + (bias[0] * gain if bias else 0)
        set_constant(conv, 1, scaled.astype(np.float32))
        set_constant(conv, 2, moved.astype(np.float32))
        new, old = conv.outputs[0], node.outputs[0]
        new.type, new.shape = old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        if new.is_graph_output():
            new.name, old.name = old.name, f"{old.name}_before"
        remove(node)


def _folded(node: ir.Node) -> tuple[ir.Node, Array, Array] | None:
    """The convolution that a node scales and shifts, with gain and shift of each channel."""
    if node.op_type not in ("Add", "BatchNormalization", "Mul", "Sub"):
        return None
    index = 0 if producer(operand(node, 0), *_CONVOLUTIONS) is not None else 1
    conv = producer(operand(node, index), *_CONVOLUTIONS)
    if conv is None or len(conv.outputs[0].uses()) != 1 or conv.outputs[0].is_graph_output():
        return None
    found = weights(conv)
    if not found or len(found) != len([value for value in conv.inputs if value is not None]) - 1:
        return None
    groups = attribute(conv, "group", 1)
    count = len(found[0]) if conv.op_type == "Conv" else found[0].shape[1] * groups
    if node.op_type == "BatchNormalization":
        if len(weights(node)) != 4:
            return None
        scale, bias, mean, variance = (values.astype(np.float64) for values in weights(node))
        gain = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        return conv, gain, bias - mean * gain
    if node.op_type == "Sub" and index == 1:
        return None
    values = constant(operand(node, 1 - index))
    shape = () if values is None else (1,) * (4 - values.ndim) + values.shape
    if values is None or shape not in ((1, 1, 1, 1), (1, count, 1, 1)):
        return None
    each = np.broadcast_to(values.astype(np.float64).reshape(-1), count)
    one, zero = np.ones(count), np.zeros(count)
    if node.op_type == "Mul":
        return conv, each, zero
    return conv, one, each if node.op_type == "Add" else -each
