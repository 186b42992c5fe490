"""What rules ask about Q/DQ pairs."""

from __future__ import annotations

import math

import numpy as np
import onnx

from .graph import Graph, operand

Q = "QuantizeLinear"
DQ = "DequantizeLinear"


def dequantizer(graph: Graph, name: str) -> onnx.NodeProto | None:
    """The DequantizeLinear that makes a tensor, None where something else does."""
    node = graph.producer(name)
    return node if node is not None and node.op_type == DQ else None


def quantizers(graph: Graph, name: str) -> tuple[onnx.NodeProto, ...]:
    """The QuantizeLinear nodes that read a tensor."""
    return tuple(node for node in graph.consumers(name) if node.op_type == Q)


def is_per_channel(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a Q or DQ has more than one scale."""
    shape = graph.shape(operand(node, 1)) or ()
    return math.prod(size or 1 for size in shape) > 1


def is_weight(graph: Graph, name: str) -> bool:
    """Whether a tensor is a constant, or one that went through Q/DQ."""
    node = graph.producer(name)
    while node is not None and node.op_type in (Q, DQ):
        name = operand(node, 0)
        node = graph.producer(name)
    return graph.is_constant(name)


def behind_pairs(graph: Graph, name: str) -> str:
    """The tensor itself, before the Q/DQ that it went through."""
    node = graph.producer(name)
    while node is not None and node.op_type in (Q, DQ):
        name = operand(node, 0)
        node = graph.producer(name)
    return name


def parameters(graph: Graph, node: onnx.NodeProto) -> tuple[bytes, bytes]:
    """Scale and zero point of a Q or DQ, for comparison; a missing zero point is 0."""
    scale, zero = graph.constant(operand(node, 1)), graph.constant(operand(node, 2))
    return (
        b"" if scale is None else scale.astype(np.float64).tobytes(),
        b"" if zero is None or not zero.any() else zero.astype(np.int64).tobytes(),
    )
