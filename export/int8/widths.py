"""Which nodes of a graph of integers alone take 16 bits, and where values change their width."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import onnx_ir as ir
from onnxruntime.quantization import QuantType

from ..graphs.passes.convolutions import end_of_conv
from ..graphs.passes.graph import is_head, nodes_behind_heads, nodes_for, producer
from .placement import int8_nodes

NARROW, WIDE = QuantType.QUInt8, QuantType.QUInt16


def wide_nodes(model: ir.Model, chosen: Collection[str] | None) -> set[ir.Node]:
    """Nodes that compute in 16 bits.

    - The last convolutions and what is behind them: 256 levels over the range of all logits are too
      coarse for the argmax at a boundary.
    - The gate: its presence is compared with a threshold, which may be as near to 1 as 0.997.
    - Of the nodes that may run in INT8, those that are not chosen, and those that put out what
      these read: else it would be rounded to 8 bits all the same.

    Args:
        chosen: names of the nodes that may run in 8 bits, None for all.
    """
    graph = model.graph
    needed, behind = nodes_for(graph.outputs[0]), nodes_behind_heads(graph)
    found = {n for n in graph if n not in needed or n in behind or is_head(n)}
    if chosen is not None:
        possible = set(int8_nodes(model))
        returned = {n for n in graph if n.name in possible and n.name not in chosen}
        made = {producer(value) for node in returned for value in node.inputs}
        found.update(returned, {node for node in made if node is not None})
    # The pair behind a convolution takes the place of its clamp, so both have one width.
    for node in graph:
        if node.op_type in ("Conv", "ConvTranspose"):
            pair = (node, end_of_conv(node))
            found.update(pair if not found.isdisjoint(pair) else ())
    return found


def width_overrides(
    model: ir.Model, wide: Collection[ir.Node], ranges: Collection[str]
) -> dict[str, list[dict[str, Any]]]:
    """The quantizer's option TensorQuantOverrides: widths other than 8 bits, and their changes.

    A tensor has the width in which it is computed. Where nodes of the other width read it, it is
    converted for them.

    Args:
        ranges: names of the tensors that are quantized.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    for value in values:
        readers, made = value.consumers(), producer(value)
        is_wide = made in wide if made is not None else all(node in wide for node in readers)
        others = {str(node.name) for node in readers if (node in wide) != is_wide}
        if str(value.name) not in ranges or not (is_wide or others):
            continue
        width, other = (WIDE, NARROW) if is_wide else (NARROW, WIDE)
        told: dict[str, Any] = {"quant_type": width}
        if others:
            told["convert"] = {"quant_type": other, "recv_nodes": others}
        found[str(value.name)] = [told]
    return found
