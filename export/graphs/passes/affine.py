"""Biases and normalisations behind convolutions -> inside them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph import (
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


class FoldAffine(NodePass):
    """What multiplies or shifts the channels of a convolution -> its weights and bias.

    That is a BatchNormalization, an Add, a Sub or a Mul by constants of each channel, if nothing
    else reads the convolution. Torch's exporter folds the first behind a Conv, but not behind a
    ConvTranspose; TensorFlow's converter writes biases as Adds.
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
    if found[0].ndim != 4:  # in one dimension, as over channels, or in three
        return None
    groups = attribute(conv, "group", 1)
    count = len(found[0]) if conv.op_type == "Conv" else found[0].shape[1] * groups
    if node.op_type == "BatchNormalization":
        if len(weights(node)) != 4 or attribute(node, "training_mode", 0):
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
