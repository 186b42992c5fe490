"""One factor a channel -> the same for a whole row of pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from .graph import Chain, map_shapes, rebuilt

LONG = 256
"""Values from which on ONNX Runtime's INT8 kernels gain nothing by longer runs of them."""


def expand_gates(model: onnx.ModelProto) -> onnx.ModelProto:
    """Repeat the factors (C, 1, 1) of a Mul with a map (C, H, W) along its columns.

    With channels last, ONNX Runtime multiplies a run of C values at a time; with 16 channels that
    took four times as long as runs of whole rows. Maps of `LONG` channels and more are left alone.
    """
    shapes = map_shapes(model)
    nodes: list[onnx.NodeProto] = []
    initializers: dict[str, npt.NDArray[np.generic]] = {}
    for node in model.graph.node:
        channels, _, width = shapes.get(node.output[0], (LONG, 1, 1))
        gates = [name for name in node.input if shapes.get(name) == (channels, 1, 1)]
        if node.op_type != "Mul" or channels >= LONG or width == 1 or len(gates) != 1:
            nodes.append(node)
            continue
        chain = Chain(node, gates[0])
        chain.add("Transpose", "channels_last", perm=[0, 2, 3, 1])
        chain.add("Expand", "row", [1, 1, width, 1])
        chain.add("Transpose", "channels_first", perm=[0, 3, 1, 2])
        multiplied = onnx.NodeProto()
        multiplied.CopyFrom(node)
        multiplied.input[list(node.input).index(gates[0])] = chain.output
        nodes += [*chain.nodes, multiplied]
        initializers |= chain.constants
    return rebuilt(model, nodes, initializers)
