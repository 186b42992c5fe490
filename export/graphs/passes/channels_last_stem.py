"""The convolutions at the image -> channels last as soon as they are computed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from .graph import Chain, map_shapes, part, readers, rebuilt

_ACTIVATIONS = ("Clip", "Relu")


def channels_last_stem(model: onnx.ModelProto) -> onnx.ModelProto:
    """Turn what the convolutions at the image put out, behind their activation, there and back.

    They run in float, with channels in blocks; the INT8 ones want channels last. ONNX Runtime goes
    from one to the other by way of channels first, unless the Transpose stands right behind the
    convolution. The Flatten keeps it there: quantization is not moved across it.
    """
    shapes, read_by = map_shapes(model), readers(model)
    image = model.graph.input[0].name
    nodes: list[onnx.NodeProto] = []
    initializers: dict[str, npt.NDArray[np.generic]] = {}
    ends: set[str] = set()  # outputs of the activations behind a convolution at the image
    for node in model.graph.node:
        nodes.append(node)
        at_image = node.op_type == "Conv" and image in node.input
        if not at_image and ends.isdisjoint(node.output):
            continue
        followers = read_by.get(node.output[0], [])
        if at_image and [f.op_type in _ACTIVATIONS for f in followers] == [True]:
            ends.update(followers[0].output)
        elif followers and node.output[0] in shapes:
            turned = _turned(node, followers[0], shapes[node.output[0]])
            nodes[-1:] = turned.nodes
            initializers |= turned.constants
    return rebuilt(model, nodes, initializers)


def _turned(node: onnx.NodeProto, reader: onnx.NodeProto, shape: tuple[int, int, int]) -> Chain:
    """The node, float moves, and those back, which run in INT8 where the reader does."""
    channels, height, width = shape
    chain = Chain(node, part(node, "maps"))
    chain.add("Transpose", "channels_last", perm=[0, 2, 3, 1])
    chain.add("Flatten", "flat")
    back = Chain(reader, chain.output)
    back.add("Reshape", f"{node.name}_pixels", [-1, height, width, channels])
    settings = {"output": node.output[0], "perm": [0, 3, 1, 2]}
    back.add("Transpose", f"{node.name}_maps", **settings)
    moved = onnx.NodeProto()
    moved.CopyFrom(node)
    moved.output[0] = part(node, "maps")
    back.nodes[:0] = [moved, *chain.nodes]
    return back
