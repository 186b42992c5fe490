"""Channels last, as ONNX Runtime's INT8 kernels compute.

ONNX Runtime's INT8 convolutions bring Transposes of their own; those added here cancel out with
them.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from .convolutions import BLOCK, end_of_conv
from .graph import (
    Chain,
    MapPass,
    attribute,
    constant,
    map_shape,
    nodes_behind_heads,
    producer,
    reads_image,
    remove,
)
from .upsampling import resizes_by_scales

LONG = 256
"""Values from which on ONNX Runtime's INT8 kernels gain nothing by longer runs of them."""


class SpreadDepthToSpace(MapPass):
    """DepthToSpace -> Transposes and Reshapes, most of which cost nothing with channels last.

    ONNX Runtime's own moves byte after byte, with channels first, between two Transposes.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every DepthToSpace in DCR mode to a map of fixed size."""
        dcr = node.op_type == "DepthToSpace" and attribute(node, "mode", "DCR") == "DCR"
        return dcr and bool(map_shape(node.outputs[0]))

    def rewrite(self, node: ir.Node) -> None:
        """The values stay as they are."""
        size = attribute(node, "blocksize", None)
        chain = Chain(node, node.inputs[0])
        chain.spread(map_shape(node.outputs[0]), block=(size, size))
        chain.replace_node()


class ExpandGates(MapPass):
    """One factor a channel -> the same factors for a whole row of pixels.

    With channels last, ONNX Runtime multiplies a run of C values at a time. With 16 channels that
    took four times as long as runs of whole rows. Maps of `LONG` and more channels stay.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every Mul of a map (C, H, W) and factors (C, 1, 1)."""
        channels, _, width = map_shape(node.outputs[0]) or (LONG, 1, 1)
        return node.op_type == "Mul" and channels < LONG and width > 1 and len(_gates(node)) == 1

    def rewrite(self, node: ir.Node) -> None:
        """Repeat the factors along the columns."""
        (index,) = _gates(node)
        _, _, width = map_shape(node.outputs[0])
        chain = Chain(node, node.inputs[index])
        chain.add("Transpose", "channels_last", perm=[0, 2, 3, 1])
        chain.add("Expand", "row", [1, 1, width, 1])
        chain.add("Transpose", "channels_first", perm=[0, 3, 1, 2])
        node.prepend(chain.nodes)
        node.replace_input_with(index, chain.output)


def _gates(mul: ir.Node) -> list[int]:
    """Indices of the inputs that hold one computed factor a channel.

    A constant one has no range that its repetition could inherit.
    """
    channels, _, _ = map_shape(mul.outputs[0])
    return [
        i
        for i, value in enumerate(mul.inputs)
        if map_shape(value) == (channels, 1, 1) and constant(value) is None
    ]


_CHANNELS_FIRST = {"InstanceNormalization", "Reshape", "Transpose"}
"""They read a map with channels first, or go from there to their own order."""


class ChannelsLastStem(MapPass):
    """The convolutions at the image -> channels last as soon as they are computed.

    They run in float, with channels in blocks; the INT8 ones read channels last. ONNX Runtime goes
    from one to the other through channels first, unless the Transpose stands right behind the
    convolution and its activation. The Flatten keeps it there: quantization is not moved across.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every Conv at the image to a map of fixed size, if channels last are of use behind it."""
        if node.op_type != "Conv" or not reads_image(node):
            return False
        output = end_of_conv(node).outputs[0]
        readers = {reader.op_type for reader in output.consumers()}
        return bool(map_shape(output)) and not readers <= _CHANNELS_FIRST

    def rewrite(self, node: ir.Node) -> None:
        """Transpose there, and back."""
        end = end_of_conv(node)
        channels, height, width = map_shape(end.outputs[0])
        reader = end.outputs[0].consumers()[0]
        chain = Chain(end, end.outputs[0])
        chain.add("Transpose", "channels_last", perm=[0, 2, 3, 1])
        chain.add("Flatten", "flat")
        chain.node = reader  # the way back runs in INT8 if the reader does
        chain.add("Reshape", f"{end.name}_pixels", [-1, height, width, channels])
        chain.add("Transpose", f"{end.name}_maps", perm=[0, 3, 1, 2])
        chain.node = end
        chain.insert_behind(end, "maps")


class MapsOfTokens(MapPass):
    """Transpose and Reshape of tokens to a map -> Reshape and Transpose.

    A transformer's tokens (N, H W, C) are a map with channels last already. In this order the
    Transpose cancels out with that of the INT8 convolution which reads the map.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every Reshape to a map of fixed size of what a Transpose makes of its tokens."""
        transpose = producer(node.inputs[0], "Transpose") if node.op_type == "Reshape" else None
        if transpose is None or attribute(transpose, "perm", ()) != (0, 2, 1):
            return False
        return _are_tokens(transpose.inputs[0], node.outputs[0])

    def rewrite(self, node: ir.Node) -> None:
        """The rows of tokens become rows of pixels."""
        transpose = producer(node.inputs[0])
        assert transpose is not None
        channels, height, width = map_shape(node.outputs[0])
        chain = Chain(node, transpose.inputs[0])
        chain.add("Reshape", "pixels", [-1, height, width, channels])
        chain.add("Transpose", "", perm=[0, 3, 1, 2])
        chain.replace_node()
        if not transpose.outputs[0].uses():
            remove(transpose)


class TokensOfMaps(MapPass):
    """Reshape and Transpose of a map to tokens -> Transpose and Reshape, see `MapsOfTokens`.

    The Flatten between the two keeps what is quantized in front of it. Else ONNX Runtime gives each
    reader a DequantizeLinear of its own, and no longer knows the GELU that reads the tokens.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every Transpose to tokens of a map of fixed size whose pixels are in one row."""
        row = producer(node.inputs[0], "Reshape") if node.op_type == "Transpose" else None
        if row is None or attribute(node, "perm", ()) != (0, 2, 1):
            return False
        return _are_tokens(node.outputs[0], row.inputs[0])

    def rewrite(self, node: ir.Node) -> None:
        """The rows of pixels become rows of tokens."""
        row = producer(node.inputs[0])
        assert row is not None
        channels, height, width = map_shape(row.inputs[0])
        chain = Chain(node, row.inputs[0])
        chain.add("Transpose", "channels_last", perm=[0, 2, 3, 1])
        chain.add("Flatten", "flat")
        chain.add("Reshape", "", [-1, height * width, channels])
        chain.replace_node()
        if not row.outputs[0].uses():
            remove(row)


def _are_tokens(tokens: ir.Value | None, pixels: ir.Value | None) -> bool:
    """Whether one value may hold all pixels of a map as (N, H W, C)."""
    sizes = () if tokens is None or tokens.shape is None else tuple(tokens.shape)[1:]
    channels, *sides = map_shape(pixels) or (0, 0, 0)
    return channels > 0 and sizes == (math.prod(sides), channels)


class ResizeChannelsLast(MapPass):
    """Bilinear Resize -> the same with channels last, for readers in INT8.

    ONNX Runtime computes all channels of a pixel at once with channels last, and took a third to a
    sixth of the time for 64 channels. It does so on floats alone: on bytes, five times as long.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every bilinear Resize of `BLOCK` or more channels between the ends of the net."""
        if not resizes_by_scales(node) or attribute(node, "mode", "nearest") != "linear":
            return False
        if attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize":
            return False
        channels, *_ = map_shape(node.outputs[0]) or (0,)
        scales = constant(node.inputs[2])
        fixed = scales is not None and scales.size == 4 and scales[:2].tolist() == [1, 1]
        inside = isinstance(node.graph, ir.Graph) and node not in nodes_behind_heads(node.graph)
        return fixed and inside and channels >= BLOCK

    def rewrite(self, node: ir.Node) -> None:
        """Transpose there, and back."""
        scales = constant(node.inputs[2])
        assert scales is not None
        chain = Chain(node, node.inputs[0])
        chain.add("Transpose", "channels_last", perm=[0, 2, 3, 1])
        settings = {attribute.name: attribute.value for attribute in node.attributes.values()}
        chain.add("Resize", "", [], scales[[0, 2, 3, 1]], **settings)
        chain.add("Transpose", "channels_first", perm=[0, 3, 1, 2])
        chain.replace_node()
