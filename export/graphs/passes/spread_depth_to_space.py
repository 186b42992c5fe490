"""DepthToSpace -> Transposes and Reshapes, most of which cost nothing with channels last."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from .graph import Chain, attributes, map_shapes, rebuilt, spread


def spread_depth_to_space(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite every DepthToSpace in DCR mode on maps of fixed size; the values stay as they are.

    ONNX Runtime's own moves byte after byte, with channels first, between two more transpositions.
    """
    shapes = map_shapes(model)
    nodes: list[onnx.NodeProto] = []
    initializers: dict[str, npt.NDArray[np.generic]] = {}
    for node in model.graph.node:
        given = attributes(node)
        shape = shapes.get(node.output[0])
        if node.op_type != "DepthToSpace" or shape is None or given.get("mode", b"DCR") != b"DCR":
            nodes.append(node)
            continue
        size = given["blocksize"]
        chain = Chain(node, node.input[0])
        spread(chain, node.output[0], shape=shape, block=(size, size))
        nodes += chain.nodes
        initializers |= chain.constants
    return rebuilt(model, nodes, initializers)
