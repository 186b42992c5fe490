"""Upsampling in forms that quantize everywhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from .graph import (
    Array,
    Chain,
    Int8MapPass,
    NodePass,
    attribute,
    constant,
    is_plain_conv,
    map_shape,
    producer,
    remove,
    set_constant,
    weights,
)

_EXACT = {"kernel_shape": (2, 2), "strides": (2, 2)}
_DEFAULTS = {"pads": (0,) * 4, "dilations": (1, 1), "group": 1, "output_padding": (0, 0)}

# Weights of the row above, this row and the row below, after every row was repeated; and of the
# column to the left, this one and the one to the right, for the left and the right new column.
_ROWS = [0.25, 0.5, 0.25]
_COLUMNS = [[0.25, 0.75, 0], [0, 0.75, 0.25]]

_SHARES = [0.25, 0.75, 0.75, 0.25]
"""What the four nearest new rows get of a row, likewise columns."""
_FEW = 16


class DropResize(NodePass):
    """A Resize to the size that the map has -> nothing.

    Decoders that bring all levels to one size resize the finest one as well.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every Resize by scales of 1, unless it crops."""
        scales = constant(node.inputs[2]) if resizes_by_scales(node) else None
        crops = attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize"
        inner = not node.outputs[0].is_graph_output()
        return scales is not None and inner and not crops and bool((scales == 1).all())

    def rewrite(self, node: ir.Node) -> None:
        """Read what it reads."""
        assert node.inputs[0] is not None
        node.outputs[0].replace_all_uses_with(node.inputs[0])
        remove(node)


class DeconvToDepthToSpace(NodePass):
    """2x2 transposed convolution with stride 2 -> 1x1 convolution and DepthToSpace.

    Without padding such kernels do not overlap, so this is exact: each output pixel is one 1x1
    convolution of one input pixel, (N, I, h, w) -> (N, 4 O, h, w) -> (N, O, 2h, 2w). ONNX Runtime
    has no INT8 kernel for ConvTranspose, and TensorRT's is slower than FP16 in several releases.
    Other transposed convolutions stay.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every ConvTranspose for which the identity is exact."""
        return (
            node.op_type == "ConvTranspose"
            and all(attribute(node, name, None) == value for name, value in _EXACT.items())
            and all(attribute(node, name, value) == value for name, value in _DEFAULTS.items())
        )

    def rewrite(self, node: ir.Node) -> None:
        """The kernel's four places become output channels."""
        weight, *bias = weights(node)  # (I, O, 2, 2)
        # DepthToSpace in DCR mode reads channel (row * 2 + column) * O + o.
        kernel = weight.transpose(2, 3, 1, 0).reshape(-1, len(weight), 1, 1)
        chain = Chain(node, node.inputs[0], "_")
        tiled = (np.tile(values, 4) for values in bias)
        chain.add("Conv", "1x1", kernel, *tiled, kernel_shape=[1, 1])
        chain.add("DepthToSpace", "depth_to_space", blocksize=2, mode="DCR")
        chain.replace_node()


class DepthToSpaceToDeconv(Int8MapPass):
    """1x1 convolution and DepthToSpace -> 2x2 transposed convolution with stride 2.

    `DeconvToDepthToSpace` undone, for OpenVINO: oneDNN has INT8 kernels for transposed
    convolutions, which write each pixel where it belongs. Half of the time went into moving them.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every DepthToSpace into blocks of 2x2 that alone reads such a convolution.

        An activation may stand between the two. The four pixels of a block have one bias.
        """
        blocks = attribute(node, "blocksize", 2), attribute(node, "mode", "DCR")
        if node.op_type != "DepthToSpace" or blocks != (2, "DCR"):
            return False
        conv = _convolution_before(node)
        if conv is None or not is_plain_conv(conv) or not self.chosen(conv):
            return False
        weight, *biases = weights(conv)
        tiled = all((bias.reshape(4, -1) == bias[: len(bias) // 4]).all() for bias in biases)
        return weight.shape[2:] == (1, 1) and not any(attribute(conv, "pads", (0,) * 4)) and tiled

    def rewrite(self, node: ir.Node) -> None:
        """The output channels become the kernel's four places."""
        conv = _convolution_before(node)
        assert conv is not None
        weight, *biases = weights(conv)
        channels = len(weight) // 4
        kernel = weight.reshape(2, 2, channels, -1).transpose(3, 2, 0, 1)  # (I, O, 2, 2)
        end, spread = node.inputs[0], node.outputs[0]
        assert end is not None
        spread.replace_all_uses_with(end, replace_graph_outputs=True)
        end.shape = spread.shape
        remove(node)
        chain = Chain(conv, conv.inputs[0])
        constants = [kernel, *(bias[:channels] for bias in biases)]
        chain.add("ConvTranspose", "", *constants, kernel_shape=[2, 2], strides=[2, 2])
        conv.outputs[0].shape = spread.shape
        chain.replace_node()


class ResizeToConv(Int8MapPass):
    """Bilinear 2x upsampling -> repeated pixels and a depthwise convolution.

    Rows are repeated, for the neighbours of the two new rows differ. Of the columns, two new ones
    are computed as channels of an old one, as in `WidenConvolutions`. ONNX Runtime's Resize took
    four times as long on bytes as on floats; on floats, all pixels are converted before and after.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every Resize that doubles both sides of a map of fixed size, half-pixel bilinear."""
        if not (self.chosen(node) and resizes_by_scales(node)):
            return False
        scales = constant(node.inputs[2])
        return (
            attribute(node, "coordinate_transformation_mode", "half_pixel") == "half_pixel"
            and is_bilinear(node)
            and scales is not None
            and scales.tolist() == [1, 1, 2, 2]
            and bool(map_shape(node.inputs[0]))
        )

    def rewrite(self, node: ir.Node) -> None:
        """The border is repeated once more, as a Resize does."""
        channels, height, width = map_shape(node.inputs[0])
        rows = np.pad(np.arange(height).repeat(2), 1, "edge")
        columns = np.pad(np.arange(width), 1, "edge").repeat(2)
        kernels = np.array([np.outer(_ROWS, weights) for weights in _COLUMNS], np.float32)
        weight = kernels[:, None].repeat(channels, axis=0)  # (2C, 1, 3, 3)
        chain = Chain(node, node.inputs[0])
        chain.add("Transpose", "source_channels_last", perm=[0, 2, 3, 1])
        chain.add("Gather", "source_columns", columns, axis=2)
        chain.add("Gather", "source_rows", rows, axis=1)
        chain.add("Reshape", "source_twice", [-1, len(rows), width + 2, 2 * channels])
        chain.add("Transpose", "source_channels_first", perm=[0, 3, 1, 2])
        chain.add("Conv", "weighted", weight, kernel_shape=[3, 3], group=2 * channels)
        chain.spread((channels, 2 * height, 2 * width), block=(1, 2))
        chain.replace_node()


class ResizeToDeconv(ResizeToConv):
    """Bilinear 2x upsampling of few channels -> transposed convolution of the map with a border.

    For OpenVINO, whose Resize converts all pixels to float and takes twice as long. oneDNN has INT8
    kernels for whole transposed convolutions only, in which each channel meets all others: of 64
    channels that costs more than it saves on processors without AMX.
    """

    def matches(self, node: ir.Node) -> bool:
        """What `ResizeToConv` takes, of up to 16 channels."""
        return super().matches(node) and map_shape(node.inputs[0])[0] <= _FEW

    def rewrite(self, node: ir.Node) -> None:
        """A pixel adds to 4x4 new ones. The border, repeated once, adds to the outer ones."""
        channels, _, _ = map_shape(node.inputs[0])
        kernel = np.zeros((channels, channels, 4, 4), np.float32)
        kernel[range(channels), range(channels)] = np.outer(_SHARES, _SHARES)
        chain = Chain(node, node.inputs[0])
        chain.add("Pad", "bordered", [0, 0, 1, 1, 0, 0, 1, 1], mode="edge")
        settings = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [3, 3, 3, 3]}
        chain.add("ConvTranspose", "weighted", kernel, **settings)
        chain.replace_node()


class ResizeToGather(Int8MapPass):
    """Resize to the nearest pixels -> one Gather for the columns and one for the rows.

    With channels last, ONNX Runtime copies runs of C bytes, then whole rows. Its Resize goes pixel
    by pixel, with channels first: 13 to 30 ms for a decoder whose Gathers take 2.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every nearest Resize that makes a whole number of pixels of each, in fixed sizes.

        By other scales, pixels lie as near to one neighbour as to another but for rounding.
        """
        return self.chosen(node) and resizes_by_scales(node) and nearest_pixels(node) is not None

    def rewrite(self, node: ir.Node) -> None:
        """Columns first: there are fewer rows to copy."""
        pixels = nearest_pixels(node)
        assert pixels is not None
        rows, columns = pixels
        chain = Chain(node, node.inputs[0])
        chain.add("Transpose", "channels_last", perm=[0, 2, 3, 1])
        chain.add("Gather", "columns", columns, axis=2)
        chain.add("Gather", "rows", rows, axis=1)
        chain.add("Transpose", "channels_first", perm=[0, 3, 1, 2])
        chain.replace_node()


def nearest_pixels(resize: ir.Node) -> tuple[Array, Array] | None:
    """Rows and columns of the source that a Resize takes, None if it does not take whole pixels.

    Nor if a side does not grow by a whole number, or is not fixed: by other scales, pixels lie as
    near to one neighbour as to another but for rounding.
    """
    before, after = map_shape(resize.inputs[0]), map_shape(resize.outputs[0])
    scales = constant(resize.inputs[2])
    place = _PLACES.get(attribute(resize, "coordinate_transformation_mode", "half_pixel"))
    rounding = _ROUNDINGS.get(attribute(resize, "nearest_mode", "round_prefer_floor"))
    if attribute(resize, "mode", "nearest") != "nearest" or place is None or rounding is None:
        return None
    if scales is None or (scales != np.rint(scales)).any() or not before or not after:
        return None
    if before[0] != after[0]:
        return None
    rows, columns = (
        np.clip(rounding(place(np.arange(new, dtype=np.float32), scale)), 0, old - 1)
        for old, new, scale in zip(before[1:], after[1:], scales[2:], strict=True)
    )
    return rows.astype(np.int64), columns.astype(np.int64)


# Where the pixels of the result lie in the source, by the attribute of Resize, and what is nearest.
_PLACES: dict[str, Callable[[Array, np.float32], Array]] = {
    "asymmetric": lambda pixels, scale: pixels / scale,
    "half_pixel": lambda pixels, scale: (pixels + np.float32(0.5)) / scale - np.float32(0.5),
}
_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda places: np.ceil(places - np.float32(0.5)),
    "round_prefer_ceil": lambda places: np.floor(places + np.float32(0.5)),
}


def is_bilinear(node: ir.Node) -> bool:
    """Whether a node is a Resize that weighs neighbours linearly."""
    return node.op_type == "Resize" and attribute(node, "mode", "nearest") == "linear"


def resizes_by_scales(node: ir.Node) -> bool:
    """Whether a node is a Resize by scales."""
    return node.op_type == "Resize" and len(node.inputs) == 3  # a fourth is a size


class PixelShuffleToDepthToSpace(NodePass):
    """DepthToSpace in CRD mode, PyTorch's PixelShuffle -> DCR mode behind permuted channels.

    The channels are permuted in the weights of the convolution that puts them out, which costs
    nothing. DCR mode keeps the channels of a pixel together, as kernels with channels last do.
    """

    modes = ("CRD", "DCR")
    """Before and after."""

    def matches(self, node: ir.Node) -> bool:
        """Every one behind a convolution, or its activation, whose output nothing else reads."""
        before = node.op_type == "DepthToSpace" and attribute(node, "mode", "DCR") == self.modes[0]
        return before and _convolution_before(node) is not None

    def rewrite(self, node: ir.Node) -> None:
        """Channel c of place p in the block moves from c * P + p to p * C + c, or back."""
        conv = _convolution_before(node)
        assert conv is not None
        places = attribute(node, "blocksize", 1) ** 2
        node.attributes.add(ir.AttrString("mode", self.modes[1]))
        sides = (-1, places) if self.modes[0] == "CRD" else (places, -1)
        for index in range(1, len(conv.inputs)):
            values = constant(conv.inputs[index])
            if values is not None:
                parted = values.reshape(*sides, *values.shape[1:])
                set_constant(conv, index, parted.swapaxes(0, 1).reshape(values.shape))


class DepthToSpaceToPixelShuffle(PixelShuffleToDepthToSpace):
    """DepthToSpace in DCR mode -> CRD mode behind permuted channels, as ncnn's PixelShuffle is."""

    modes = ("DCR", "CRD")


def _convolution_before(node: ir.Node) -> ir.Node | None:
    """The convolution with constant weights whose channels only this node reads."""
    before = producer(node.inputs[0], "Clip", "Conv", "Relu")
    while before is not None and _is_read_once(before.outputs[0]):
        if before.op_type == "Conv":
            group = attribute(before, "group", 1)
            fixed = all(
                value is None or value.const_value is not None for value in before.inputs[1:]
            )
            return before if fixed and group == 1 else None
        before = producer(before.inputs[0], "Clip", "Conv", "Relu")
    return None


def _is_read_once(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()
