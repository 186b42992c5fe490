"""Channels last, as ONNX Runtime's INT8 kernels compute.

ONNX Runtime's INT8 convolutions bring Transposes of their own; those added here cancel out with
them.
"""

from __future__ import annotations

import onnx_ir as ir

from .convolutions import end_of_conv
from .graph import Chain, MapPass, attribute, constant, map_shape, reads_image

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


class ChannelsLastStem(MapPass):
    """The convolutions at the image -> channels last as soon as they are computed.

    They run in float, with channels in blocks; the INT8 ones read channels last. ONNX Runtime goes
    from one to the other through channels first, unless the Transpose stands right behind the
    convolution and its activation. The Flatten keeps it there: quantization is not moved across.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every Conv at the image that other nodes read, if its map has a fixed size."""
        if node.op_type != "Conv" or not reads_image(node):
            return False
        output = end_of_conv(node).outputs[0]
        readers = [reader.op_type for reader in output.consumers()]
        return bool(readers and map_shape(output)) and readers != ["Transpose"]

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
