"""Logits of two classes and more, from one channel or from probabilities."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..graphs.passes.graph import Array, Chain, constant, producer, weights
from .onnx_head import Head

SMALLEST = 2.0**-14
"""Probabilities are raised to this before their logarithm: the smallest normal FP16 number."""


def to_two_classes(model: ir.Model, head: Head) -> None:
    """One channel -> background and foreground, in a graph whose output is (N, 1, h, w).

    The logits become -z/2 and z/2, less half of the threshold: their softmax is the sigmoid of
    z, and both have the same range, as INT8 needs it. Graphs of more channels stay. If the output
    holds probabilities, they become logarithms here.
    """
    (output,) = model.graph.outputs
    channels = output.shape[1] if output.shape is not None else None
    halves = np.array([-0.5, 0.5], np.float32)
    shift = np.float32(-head.threshold) * halves
    if head.probabilities:
        _take_logarithm(output, shift if channels == 1 else None)
        return
    if channels != 1:
        return
    node = _last_conv(output)
    if node is not None:
        weight, *bias = weights(node)
        bias = bias or [np.zeros(1, np.float32)]
        chain = Chain(node, node.inputs[0])
        kernels = weight * halves.reshape(-1, 1, 1, 1)
        chain.add("Conv", "", kernels, bias[0] * halves + shift)
        chain.nodes[0].attributes.update(node.attributes)
        chain.replace_node()
        for value in (value for each in model.graph for value in each.outputs):
            value.shape = None
    else:
        last = producer(output)
        assert last is not None
        chain = Chain(last, output)
        chain.add("Conv", "classes", halves.reshape(2, 1, 1, 1), shift, kernel_shape=[1, 1])
        _behind(output, chain)
    model.graph.outputs[0].shape = None


def _last_conv(output: ir.Value) -> ir.Node | None:
    """The convolution of an output with constant weights, also in front of a Resize by scales."""
    node = producer(output)
    while node is not None and node.op_type == "Resize" and len(node.inputs) == 3:
        source = node.inputs[0]
        if source is None or len(source.uses()) != 1 or constant(node.inputs[2]) is None:
            return None
        node = producer(source)
    if node is None or node.op_type != "Conv" or len(weights(node)) != len(node.inputs) - 1:
        return None
    return node


def _take_logarithm(output: ir.Value, shift: Array | None) -> None:
    """Logarithms in place of probabilities; shift: of the two classes of one channel."""
    last = producer(output)
    assert last is not None
    chain = Chain(last, output)
    if shift is not None:  # 1 - p and p
        kernels = np.array([-1, 1], np.float32).reshape(2, 1, 1, 1)
        chain.add("Conv", "classes", kernels, np.array([1, 0], np.float32), kernel_shape=[1, 1])
    chain.add("Max", "raised", np.float32(SMALLEST))
    chain.add("Log", "logarithm")
    if shift is not None and shift.any():
        chain.add("Add", "shifted", shift.reshape(2, 1, 1))
    _behind(output, chain)
    assert chain.output is not None
    chain.output.shape = None


def _behind(output: ir.Value, chain: Chain) -> None:
    """Put new nodes behind the graph's output; the last one's output takes its name."""
    node, graph = producer(output), output.graph
    assert node is not None and graph is not None and chain.output is not None
    name, output.name = output.name, f"{output.name}_before"
    chain.output.name, chain.output.type = name, output.type
    graph.outputs[0] = chain.output
    node.append(chain.nodes)
