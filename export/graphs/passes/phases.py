"""Convolutions behind a doubling of the map, computed before it: the same sums, half the products.

Of a map whose pixels are repeated twice, a 3x3 convolution sees at most 2x2 different pixels. Which
ones, and by which sums of its weights, depends on whether the row and the column are even or odd:
on one of four phases (Shi et al., "Is the deconvolution layer the same as a convolutional layer?",
arXiv 1609.07009). A 2x2 convolution of the small map computes all phases as channels, and these are
spread over the pixels.

It computes one more row and column than the small map has. Its window (a, b) covers rows 2a - 2 to
2a + 1 of the large map, and puts out rows 2a - 1 and 2a; likewise for columns. So the first and the
last row and column that are spread lie outside of the map, and are cut off.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import product

import numpy as np
import onnx_ir as ir

from .convolutions import end_of_conv
from .graph import (
    Array,
    Chain,
    Int8MapPass,
    attribute,
    is_head,
    is_plain_conv,
    map_shape,
    producer,
    weights,
)
from .upsampling import nearest_pixels, resizes_by_scales


class UpsampledConvToPhases(Int8MapPass):
    """3x3 convolution of a map, part of which is doubled, -> 2x2 convolution of the small map.

    The part that is not doubled, a skip connection, is folded into channels: a block of 2x2 pixels
    becomes one. That takes 16 products for 9, where the doubled part takes 4 for 9. So the doubled
    part must have the more channels. The decoder of smp.Unet has 5 to 13 times as many.

    Args:
        nodes: see `Int8MapPass`.
        whole: pixels are moved by SpaceToDepth, DepthToSpace and a Slice, which OpenVINO computes
            on bytes; else by Transpose and Reshape, as ONNX Runtime is fast with.
    """

    def __init__(self, nodes: Collection[str] | None = None, *, whole: bool = False) -> None:
        super().__init__(nodes)
        self._whole = whole

    def matches(self, node: ir.Node) -> bool:
        """Plain convolutions with a border of 1 that read a doubled map, or a Concat with one."""
        if not self.chosen(node) or not _keeps_size(node):
            return False
        _, parts = _parts(node)
        shapes = [map_shape(part) for part in parts]
        if not all(shapes) or not map_shape(node.outputs[0]) or any(np.mod(shapes[0][1:], 2)):
            return False
        doubled = sum(map_shape(part)[0] for part in parts if _doubling(part) is not None)
        total = sum(shape[0] for shape in shapes)
        products = 4 * doubled + 16 * (total - doubled)
        if not self._whole:
            return products < 9 * total
        _, height, width = shapes[0]
        windows = (height // 2 + 1) * (width // 2 + 1)
        return 4 * products * windows < _SAVES * 9 * total * height * width

    def rewrite(self, node: ir.Node) -> None:
        """Each part of the input becomes small; the kernel's weights move to their phases."""
        weight, *bias = weights(node)
        reader, parts = _parts(node)
        kernels, start = [], 0
        for index, part in enumerate(parts):
            channels = map_shape(part)[0]
            own = weight[:, start : start + channels]
            start += channels
            resize = _doubling(part)
            if resize is not None:
                kernels.append(_of_doubled(own))
                reader.replace_input_with(index, resize.inputs[0])
            else:
                kernels.append(_of_blocks(own))
                blocks = _blocks(reader, part, f"blocks{index}", whole=self._whole)
                reader.replace_input_with(index, blocks)
        if reader is not node:
            reader.outputs[0].shape = None
        kernel = np.concatenate(kernels, axis=3)
        _replace(node, node.inputs[0], kernel, bias, whole=self._whole)


class UpsampledConvToDeconv(Int8MapPass):
    """3x3 convolution of a doubled map -> 4x4 transposed convolution of the small map, stride 2.

    For OpenVINO: `UpsampledConvToPhases` needs as many products, and moves the pixels by
    DepthToSpace, which takes twice as long as the convolution.
    """

    def matches(self, node: ir.Node) -> bool:
        """Plain convolutions with a border of 1 that read a doubled map and nothing else."""
        doubles = node.op_type == "Conv" and _doubling(node.inputs[0]) is not None
        return doubles and self.chosen(node) and _keeps_size(node)

    def rewrite(self, node: ir.Node) -> None:
        """A pixel of the small map is four of the large one, so four kernels are added up."""
        weight, *bias = weights(node)  # (O, I, 3, 3)
        resize = _doubling(node.inputs[0])
        assert resize is not None
        flipped = weight[:, :, ::-1, ::-1].swapaxes(0, 1)
        kernel = np.zeros((*flipped.shape[:2], 4, 4), np.float64)
        for row, column in product(range(2), range(2)):
            kernel[:, :, row : row + 3, column : column + 3] += flipped
        chain = Chain(node, resize.inputs[0])
        settings = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        chain.add("ConvTranspose", "", kernel, *bias, **settings)
        chain.replace_node()


class DeconvToPhases(Int8MapPass):
    """3x3 or 4x4 transposed convolution with stride 2 that doubles a map -> 2x2 convolution.

    ONNX Runtime has no INT8 kernel for ConvTranspose.
    """

    def matches(self, node: ir.Node) -> bool:
        """Those whose border makes the result just twice as large as the map."""
        return self.chosen(node) and doubles_map(node)

    def rewrite(self, node: ir.Node) -> None:
        """Row r of the kernel goes to row 2i - 1 + r of the result, where i is the pixel's.

        So row 2a - 1 reads rows 2 and 0 of the kernel for the pixels a - 1 and a, and row 2a reads
        3 and 1. A kernel of three rows needs no pixel but a for row 2a: there rows 2a and 2a + 1
        are one window's, and nothing is computed outside of the map.
        """
        weight, *bias = weights(node)  # (I, O, k, k)
        small = weight.shape[2] == 3
        padded = np.pad(weight, [(0, 0), (0, 0), (0, small), (0, small)])
        rows = [[1, 3], [2, 0]] if small else [[2, 0], [3, 1]]
        kernel = padded[:, :, rows][..., rows]  # (I, O, py, a, px, b)
        _replace(node, node.inputs[0], kernel.transpose(2, 4, 1, 0, 3, 5), bias, inside=small)


_SAVES = 0.85
"""Share of the products up to which moving the pixels pays on OpenVINO. At 0.92 to 1.03, as in
smp.Unet(resnet34), it cost 5 % of the time; at 0.63 to 0.73, as with mobilenet_v2, it saves."""

_DOUBLING = {"strides": (2, 2), "pads": (1, 1, 1, 1), "dilations": (1, 1), "group": 1}


def doubles_map(node: ir.Node) -> bool:
    """Whether a node is a transposed convolution that `DeconvToPhases` takes; not a last one."""
    if node.op_type != "ConvTranspose" or not map_shape(node.outputs[0]) or is_head(node):
        return False
    given = {name: attribute(node, name, value) for name, value in _DOUBLING.items()}
    size = [values.shape[2:] for values in weights(node)[:1]]
    extra = attribute(node, "output_padding", (0, 0))
    return given == _DOUBLING and (size, extra) in (([(4, 4)], (0, 0)), ([(3, 3)], (1, 1)))


def _keeps_size(conv: ir.Node) -> bool:
    """Whether a node is a plain 3x3 convolution with a border of 1, and not a last one."""
    if not is_plain_conv(conv) or attribute(conv, "pads", ()) != (1, 1, 1, 1):
        return False
    return weights(conv)[0].shape[2:] == (3, 3) and not is_head(conv)


def _parts(conv: ir.Node) -> tuple[ir.Node, list[ir.Value]]:
    """What a convolution reads, and who: a Concat of channels that only it reads, or itself."""
    source = conv.inputs[0]
    assert source is not None
    concat = producer(source, "Concat")
    if concat is None or attribute(concat, "axis", 1) != 1 or len(source.uses()) != 1:
        return conv, [source]
    return concat, [value for value in concat.inputs if value is not None]


def _doubling(value: ir.Value | None) -> ir.Node | None:
    """The Resize that repeats each pixel twice in both directions, None if it is something else."""
    resize = producer(value)
    pixels = nearest_pixels(resize) if resize is not None and resizes_by_scales(resize) else None
    if resize is None or pixels is None:
        return None
    sizes = map_shape(resize.inputs[0])[1:]
    repeated = (np.arange(size).repeat(2) for size in sizes)
    return resize if all(map(np.array_equal, pixels, repeated)) else None


def _taps() -> list[tuple[int, int, int]]:
    """(phase, row of the 3x3 kernel, row of the large map in the window), likewise for columns."""
    return [(phase, tap, phase + tap) for phase, tap in product(range(2), range(3))]


def _of_doubled(weight: Array) -> Array:
    """(O, C, 3, 3) -> (2, 2, O, C, 2, 2): weights that meet the same pixel are added."""
    kernel = np.zeros((2, 2, *weight.shape[:2], 2, 2), np.float64)
    for (py, i, row), (px, j, column) in product(_taps(), _taps()):
        kernel[py, px, :, :, row // 2, column // 2] += weight[:, :, i, j]
    return kernel.astype(weight.dtype)


def _of_blocks(weight: Array) -> Array:
    """(O, C, 3, 3) -> (2, 2, O, 4 C, 2, 2): channel (row * 2 + column) * C + c, as `_blocks`."""
    outputs, channels = weight.shape[:2]
    kernel = np.zeros((2, 2, outputs, 2, 2, channels, 2, 2), weight.dtype)
    for (py, i, row), (px, j, column) in product(_taps(), _taps()):
        kernel[py, px, :, row % 2, column % 2, :, row // 2, column // 2] = weight[:, :, i, j]
    return kernel.reshape(2, 2, outputs, 4 * channels, 2, 2)


def _blocks(reader: ir.Node, part: ir.Value, name: str, *, whole: bool) -> ir.Value:
    """Nodes in front of the reader, (N, C, 2h, 2w) -> (N, 4 C, h, w).

    Args:
        whole: one node; else nodes that are fast with channels last.
    """
    channels, height, width = map_shape(part)
    chain = Chain(reader, part)
    if whole:
        chain.add("SpaceToDepth", name, blocksize=2)
    else:
        chain.add("Transpose", f"{name}_channels_last", perm=[0, 2, 3, 1])
        chain.add("Reshape", f"{name}_columns", [-1, 2, width // 2, 2 * channels])
        chain.add("Transpose", f"{name}_rows", perm=[0, 2, 1, 3])
        chain.add("Reshape", name, [-1, height // 2, width // 2, 4 * channels])
        chain.add("Transpose", f"{name}_channels_first", perm=[0, 3, 1, 2])
    reader.prepend(chain.nodes)
    assert chain.output is not None
    return chain.output


def _replace(
    node: ir.Node,
    source: ir.Value | None,
    kernel: Array,
    bias: list[Array],
    *,
    inside: bool = False,
    whole: bool = False,
) -> None:
    """Put a convolution of all phases in place of the node, and spread them behind its activation.

    Args:
        kernel: (2, 2, O, I, 2, 2), phases first.
        inside: windows start at their pixel, else at the one above and to the left.
        whole: see `UpsampledConvToPhases`.
    """
    channels, height, width = map_shape(node.outputs[0])
    conv = Chain(node, source)
    conv.add(
        "Conv",
        "",
        kernel.reshape(4 * channels, *kernel.shape[3:]),
        *(np.tile(values, 4) for values in bias),
        kernel_shape=[2, 2],
        pads=[0, 0, 1, 1] if inside else [1, 1, 1, 1],
    )
    conv.replace_node()
    conv.nodes[0].outputs[0].shape = None
    end = end_of_conv(conv.nodes[0])
    chain = Chain(conv.nodes[0], end.outputs[0])
    if inside:
        chain.spread((channels, height, width), block=(2, 2))
    elif whole:
        chain.add("DepthToSpace", "pixels", blocksize=2, mode="DCR")
        chain.add("Slice", "cut", [1, 1], [height + 1, width + 1], [2, 3])
    else:
        chain.add("Transpose", "channels_last", perm=[0, 2, 3, 1])
        chain.add("Reshape", "columns", [-1, width // 2 + 1, 2, 2 * channels])
        chain.add("Transpose", "interleaved", perm=[0, 2, 1, 3])
        chain.add("Reshape", "rows", [-1, height + 2, (width + 2) * channels])
        chain.add("Slice", "cut", [1, channels], [height + 1, (width + 1) * channels], [1, 2])
        chain.add("Reshape", "pixels", [-1, height, width, channels])
        chain.add("Transpose", "channels_first", perm=[0, 3, 1, 2])
    chain.insert_behind(end, "phases")
