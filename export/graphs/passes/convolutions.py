"""Convolutions as ONNX Runtime's INT8 kernels are fast with them. The sums stay the same."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph import (
    Chain,
    MapPass,
    NodePass,
    attribute,
    constant,
    is_head,
    is_plain_conv,
    map_shape,
    operand,
    reads_image,
    remove,
    weights,
)

TILE = 16
"""Output channels, columns of a matrix, that ONNX Runtime's INT8 kernels for x86-64 compute at
once. With fewer they fall back to slower ones: a 3x3 convolution to 8 channels took 2.2 times as
long as one to 16."""

_ACTIVATIONS = ("Clip", "Relu")


def end_of_conv(conv: ir.Node) -> ir.Node:
    """The activation behind a convolution if nothing else reads it, else the convolution.

    Nothing may come between the two, or they do not fuse.
    """
    readers = conv.outputs[0].consumers()
    return readers[0] if [r.op_type in _ACTIVATIONS for r in readers] == [True] else conv


class BatchNormToConv(NodePass):
    """BatchNormalization -> depthwise 1x1 convolution.

    (x - mean) * scale / sqrt(variance + epsilon) + bias is one multiplication and one addition.
    The exporter folds a normalisation behind a convolution; ONNX Runtime has no INT8 kernel for
    the others, in front of a convolution or behind an Add.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every BatchNormalization."""
        return node.op_type == "BatchNormalization"

    def rewrite(self, node: ir.Node) -> None:
        """The slope becomes the weight."""
        scale, bias, mean, variance = weights(node)
        slope = scale / np.sqrt(variance + np.float32(attribute(node, "epsilon", 1e-5)))
        kernel = slope.reshape(-1, 1, 1, 1)
        chain = Chain(node, node.inputs[0])
        chain.add("Conv", "", kernel, bias - mean * slope, kernel_shape=[1, 1], group=len(slope))
        chain.replace_node()


class PadToConv(NodePass):
    """A Pad with zeros in front of convolutions -> their own padding; without borders, nothing.

    Exporters of nets whose padding is not even on both sides write it out. In INT8 it would be a
    pass over the map of its own.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every Pad without borders, and those of rows and columns that only convolutions read."""
        borders = constant(operand(node, 1)) if node.op_type == "Pad" else None
        if borders is None or node.outputs[0].is_graph_output() or operand(node, 3) is not None:
            return False
        if not borders.any():
            return True
        value = constant(operand(node, 2))
        zeros = attribute(node, "mode", b"constant") in ("constant", b"constant")
        zeros = zeros and (not operand(node, 2) or (value is not None and not value.any()))
        maps = borders.size == 8 and not borders[[0, 1, 4, 5]].any() and borders.min() >= 0
        return zeros and maps and all(_pads_itself(*use) for use in node.outputs[0].uses())

    def rewrite(self, node: ir.Node) -> None:
        """Add the borders to those of the convolutions."""
        borders = constant(node.inputs[1])
        assert borders is not None and node.inputs[0] is not None
        if borders.any():
            for conv in node.outputs[0].consumers():
                own = attribute(conv, "pads", (0,) * 4)
                total = np.add(own, borders[[2, 3, 6, 7]]).tolist()
                conv.attributes.add(ir.AttrInt64s("pads", total))
        node.outputs[0].replace_all_uses_with(node.inputs[0])
        remove(node)


def _pads_itself(reader: ir.Node, index: int) -> bool:
    """Whether the reader of a value is a two-dimensional convolution, and convolves it."""
    known = [values.ndim for values in weights(reader)[:1]] == [4]
    padded = attribute(reader, "auto_pad", "NOTSET") == "NOTSET"
    return reader.op_type == "Conv" and index == 0 and known and padded


class WidenConvolutions(MapPass):
    """A convolution with few output channels -> fewer positions with more channels.

    It computes several neighbouring columns at once, as channels. A kernel of width k and stride 1
    becomes, for `columns` neighbours, as many shifted copies of itself in a kernel of width
    k + columns - 1 and stride `columns`. Every output is the same sum, and with channels last the
    columns are only counted differently afterwards. The first and the last convolutions stay: they
    run in float.
    """

    def matches(self, node: ir.Node) -> bool:
        """Plain convolutions inside the graph that leave room in a tile."""
        if not is_plain_conv(node) or self._columns(node) == 1:
            return False
        return not (reads_image(node) or is_head(node) or node.outputs[0].is_graph_output())

    def rewrite(self, node: ir.Node) -> None:
        """The columns are spread behind the activation."""
        shape, columns = map_shape(node.outputs[0]), self._columns(node)
        weight, *bias = weights(node)
        outputs, inputs, rows, width = weight.shape
        wide = np.zeros((columns, outputs, inputs, rows, width + columns - 1), weight.dtype)
        for column in range(columns):
            wide[column, ..., column : column + width] = weight
        conv = Chain(node, node.inputs[0])
        conv.add(
            "Conv",
            "",
            wide.reshape(columns * outputs, *wide.shape[2:]),
            *(np.tile(values, columns) for values in bias),
            kernel_shape=wide.shape[3:],
            strides=[1, columns],
            pads=attribute(node, "pads", [0] * 4),
        )
        conv.replace_node()
        conv.nodes[0].outputs[0].shape = None
        end = end_of_conv(conv.nodes[0])
        chain = Chain(conv.nodes[0], end.outputs[0])
        chain.spread(shape, block=(1, columns))
        chain.insert_behind(end, "widened_output")

    def _columns(self, node: ir.Node) -> int:
        """Neighbours that fill the tile; 1 if the convolution stays as it is."""
        channels, _, width = map_shape(node.outputs[0]) or (TILE, 1, 1)
        columns = 1
        while 2 * columns * channels <= TILE and width % (2 * columns) == 0:
            columns *= 2
        return columns


BLOCK = 8
"""Output channels that ONNX Runtime's float convolutions for AVX2 compute at once; for AVX-512 it
is twice as many. With fewer they take as long as with all."""


class TransposeHead(NodePass):
    """The last convolution -> transposed convolution.

    With stride 1 and the kernel rotated by 180 degrees both are the same sums. The last
    convolution stays float, and ONNX Runtime's float convolution is slow with less than `BLOCK`
    output channels: 3x3 from 40 channels to 3 took 2.8 times as long as this form, from 16 to 4
    twice as long, from 16 to 8 as long. From 16 to 11 it takes half as long, so that such heads
    stay. 1x1 kernels stay too, and what has about as few input channels: from 3 to 3 it took three
    times as long in this form.

    In INT8 with float sums, as products with shifted copies of the map, the kernel from 16 to 11
    took a quarter longer than in float: the copies cost more than the products gain.
    """

    def matches(self, node: ir.Node) -> bool:
        """The last convolutions, if the kernel is square, its border even and channels are few."""
        if not is_head(node) or not is_plain_conv(node):
            return False
        outputs, inputs, height, width = weights(node)[0].shape
        if outputs >= BLOCK or 3 * inputs < 4 * outputs:
            return False
        pads = set(attribute(node, "pads", (0,)))
        return height == width > 1 and len(pads) == 1 and max(pads) < height

    def rewrite(self, node: ir.Node) -> None:
        """(O, I, k, k) becomes (I, O, k, k), upside down."""
        weight, *bias = weights(node)
        size, pad = weight.shape[2], attribute(node, "pads", (0,))[0]
        chain = Chain(node, node.inputs[0])
        chain.add(
            "ConvTranspose",
            "",
            weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1],
            *bias,
            kernel_shape=[size, size],
            pads=[size - 1 - pad] * 4,
        )
        chain.replace_node()


class ConvToMatMul(MapPass):
    """1x1 convolution whose output stays float -> matrix product.

    The last convolutions, and those that only a Sigmoid reads. ONNX Runtime multiplies 8-bit
    matrices into float sums, but has no such convolution: it would convert all pixels to float
    first. With channels last, neighbours are one row of the matrix. The weights stand in it once
    for each neighbour, as many as fill the tile: 16 channels to 3 classes took a third of the time.
    """

    def matches(self, node: ir.Node) -> bool:
        """Plain 1x1 convolutions without padding to a map of fixed size."""
        if not is_plain_conv(node) or weights(node)[0].shape[2:] != (1, 1):
            return False
        output = node.outputs[0]
        readers = [reader.op_type for reader in output.consumers()]
        stays_float = is_head(node) or readers == ["Sigmoid"]
        return stays_float and not any(attribute(node, "pads", ())) and bool(map_shape(output))

    def rewrite(self, node: ir.Node) -> None:
        """Only the MatMul keeps the node's name, by which it is chosen for INT8."""
        weight, *bias = weights(node)
        weight = weight[:, :, 0, 0].T  # (I, O)
        (inputs, outputs), (_, height, width) = weight.shape, map_shape(node.outputs[0])
        neighbours = 1
        while 2 * neighbours * outputs <= TILE and width % (2 * neighbours) == 0:
            neighbours *= 2
        chain = Chain(node, node.inputs[0])
        chain.add("Transpose", "channels_last", perm=[0, 2, 3, 1])
        if neighbours > 1:
            joined = [-1, height, width // neighbours, neighbours * inputs]
            chain.add("Reshape", "joined", joined)
        chain.add("MatMul", "", np.kron(np.eye(neighbours, dtype=np.float32), weight))
        if neighbours > 1:
            chain.add("Reshape", "parted", [-1, height, width, outputs])
        chain.add("Transpose", "channels_first", perm=[0, 3, 1, 2])
        bias = bias or [np.zeros(outputs, np.float32)]
        chain.add("Add", "biased", bias[0].reshape(-1, 1, 1))
        chain.replace_node()
