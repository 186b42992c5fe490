"""Channels -> positions: what several neighbouring pixels hold, from one pixel's channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from .graph import part

Spread = tuple[list[onnx.NodeProto], dict[str, npt.NDArray[np.generic]]]


def spread(
    node: onnx.NodeProto,
    source: str,
    target: str,
    *,
    shape: tuple[int, int, int],
    block: tuple[int, int],
) -> Spread:
    """Nodes (N, rows * columns * C, H / rows, W / columns) -> (N, C, H, W), and their constants.

    Source channel (row * columns + column) * C + c is channel c of a pixel at that place in the
    block. With channels last, as ONNX Runtime computes in INT8, the outer Transposes cancel
    against the convolutions' own; columns are then only counted differently, and rows are moved
    in runs of columns * C values.

    Args:
        node: that the new ones are made out of. shape: (C, H, W) of the target.
        block: (rows, columns).
    """
    (channels, height, width), (rows, columns) = shape, block
    nodes: list[onnx.NodeProto] = []
    shapes: dict[str, npt.NDArray[np.generic]] = {}

    def add(op: str, name: str, output: str = "", **settings: Any) -> None:
        inputs = [nodes[-1].output[0] if nodes else source]
        if op == "Reshape":
            shapes[part(node, f"{name}_shape")] = np.int64(settings.pop("shape"))
            inputs.append(part(node, f"{name}_shape"))
        output = output or part(node, f"{name}_output")
        nodes.append(helper.make_node(op, inputs, [output], name=part(node, name), **settings))

    add("Transpose", "channels_last", perm=[0, 2, 3, 1])
    if rows > 1:
        add("Reshape", "rows", shape=[-1, width // columns, rows, columns * channels])
        add("Transpose", "interleaved", perm=[0, 2, 1, 3])
    add("Reshape", "columns", shape=[-1, height, width, channels])
    add("Transpose", "channels_first", target, perm=[0, 3, 1, 2])
    return nodes, shapes
