"""Convolutions with few output channels -> fewer positions with more channels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from .graph import (
    Chain,
    attributes,
    constants,
    is_plain_conv,
    map_shapes,
    part,
    readers,
    rebuilt,
    spread,
)

TILE = 16
"""Output channels that ONNX Runtime's INT8 kernels for x86-64 compute at once. With fewer they
fall back to slower ones: a 3x3 convolution to 8 channels took 2.2 times as long as one to 16. From
as few input channels, two tiles at once took a tenth less time than one."""

_ACTIVATIONS = ("Clip", "Relu")


def widen_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let narrow convolutions compute several neighbouring columns at once, as channels.

    A kernel of width k and stride 1 becomes, for `columns` neighbours, as many shifted copies of
    itself in a kernel of width k + columns - 1 and stride `columns`: every output is the same sum,
    and with channels last the columns are only counted differently afterwards. Left alone are
    convolutions at the graph's input and outputs, which stay float.
    """
    shapes, values, read_by = map_shapes(model), constants(model), readers(model)
    borders = {value.name for value in (*model.graph.input, *model.graph.output)}
    nodes: list[onnx.NodeProto] = []
    initializers: dict[str, npt.NDArray[np.generic]] = {}
    # Activations that come between a widened convolution and its columns, so that they still fuse.
    waiting: dict[str, tuple[onnx.NodeProto, int]] = {}
    for node in model.graph.node:
        conv, columns = waiting.pop(next(iter(node.input), ""), (node, 1))
        if is_plain_conv(node) and borders.isdisjoint((*node.input, *node.output)):
            inputs = values[node.input[1]].shape[1]
            columns = _columns(shapes.get(node.output[0]), tile=TILE if inputs > TILE else 2 * TILE)
        new = onnx.NodeProto()
        new.CopyFrom(node)
        nodes.append(new)
        if columns == 1:
            continue
        if conv is node:
            new.CopyFrom(_widened(node, columns, values, initializers))
            followers = read_by.get(node.output[0], [])
            if [follower.op_type in _ACTIVATIONS for follower in followers] == [True]:
                waiting[node.output[0]] = (node, columns)
                continue
        new.output[0] = part(conv, "widened_output")
        chain = Chain(conv, new.output[0])
        spread(chain, node.output[0], shape=shapes[node.output[0]], block=(1, columns))
        nodes += chain.nodes
        initializers |= chain.constants
    return rebuilt(model, nodes, initializers)


def _columns(shape: tuple[int, int, int] | None, *, tile: int) -> int:
    """Neighbours that fill the tile; 1 where the convolution stays as it is."""
    if shape is None:
        return 1
    channels, _, width = shape
    columns = 1
    while 2 * columns * channels <= tile and width % (2 * columns) == 0:
        columns *= 2
    return columns


def _widened(
    node: onnx.NodeProto,
    columns: int,
    values: dict[str, npt.NDArray[np.float32]],
    initializers: dict[str, npt.NDArray[np.generic]],
) -> onnx.NodeProto:
    weight = values[node.input[1]]  # (O, I, kh, kw)
    outputs, inputs, rows, width = weight.shape
    wide = np.zeros((columns, outputs, inputs, rows, width + columns - 1), weight.dtype)
    for column in range(columns):
        wide[column, ..., column : column + width] = weight
    names = [node.input[0], part(node, "weight")]
    initializers[names[1]] = wide.reshape(columns * outputs, *wide.shape[2:])
    if len(node.input) > 2:
        names.append(part(node, "bias"))
        initializers[names[2]] = np.tile(values[node.input[2]], columns)
    return helper.make_node(
        "Conv",
        names,
        list(node.output),
        name=node.name,
        kernel_shape=wide.shape[3:],
        strides=[1, columns],
        pads=attributes(node).get("pads", [0] * 4),
    )
