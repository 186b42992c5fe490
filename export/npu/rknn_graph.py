"""Hexagon's INT8 graph as Rockchip's compiler takes it.

Both NPUs want a pair of Q and DQ on every tensor. Rockchip's knows no 16 bits, and only ONNX's own
operators: what has 16 bits becomes float, which it computes in FP16.
"""

from __future__ import annotations

import onnx
from onnx import NodeProto, TensorProto, helper

from .one_image import one_image

_WIDE = (TensorProto.UINT16, TensorProto.INT16)
_PAIR = ("QuantizeLinear", "DequantizeLinear")


def rknn_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make a graph one of one image, with pairs of 8 bits of ONNX's own operators; returns it.

    Raises:
        GraphError: see `one_image`.

    Example:
        >>> model = rknn_graph(onnx.load(bundle / "model.fp32.onnx"))
    """
    graph = one_image(model).graph
    types = {each.name: each.data_type for each in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    left_out: list[NodeProto] = []
    instead: dict[str, str] = {}
    for node in graph.node:
        before = makers.get(node.input[0]) if node.input else None
        if (
            before is not None
            and (before.op_type, node.op_type) == _PAIR
            and types.get(node.input[-1]) in _WIDE
        ):
            left_out += [before, node]
            instead[node.output[0]] = before.input[0]
    kept = [node for node in graph.node if not any(node is each for each in left_out)]
    for node in kept:
        node.input[:] = [_source(name, instead) for name in node.input]
        if node.op_type in _PAIR:
            node.domain = ""
    ends = [value.name for value in graph.output if value.name in instead]
    kept += [helper.make_node("Identity", [_source(name, instead)], [name]) for name in ends]
    del graph.node[:]
    graph.node.extend(kept)
    read = {name for node in kept for name in node.input}
    used = [each for each in graph.initializer if each.name in read]
    del graph.initializer[:]
    graph.initializer.extend(used)
    return model


def _source(name: str, instead: dict[str, str]) -> str:
    """What is read in place of a tensor, behind any number of pairs."""
    while name in instead:
        name = instead[name]
    return name
