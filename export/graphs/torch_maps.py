"""A node that `TorchGraph` computes, and operators on maps: kernels, sizes, borders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
from torch import Tensor
from torch.nn import functional

from .passes.graph import attribute, constant, operand


class NotTakenError(Exception):
    """A form of an operator that has no counterpart here; says which."""


class Call:
    """A node that is computed, and what it reads.

    Args:
        values: computed so far, and all constants.
    """

    def __init__(self, node: ir.Node, values: Mapping[ir.Value, Tensor]) -> None:
        self.node = node
        self._values = values

    def __getitem__(self, index: int) -> Tensor:
        """An input that must be there."""
        value = self.node.inputs[index]
        assert value is not None
        return self._values[value]

    def get(self, index: int) -> Tensor | None:
        """An input that may be left out."""
        value = operand(self.node, index)
        return None if value is None else self._values[value]

    def all(self) -> list[Tensor]:
        """All inputs."""
        return [self[index] for index in range(len(self.node.inputs))]

    def numbers(self, index: int) -> list[Any] | None:
        """An input that must be constant, if it is there."""
        value = operand(self.node, index)
        if value is None:
            return None
        held = constant(value)
        if held is None:
            raise NotTakenError(f"an input {index} that is computed")
        listed: list[Any] = held.reshape(-1).tolist()
        return listed

    def attribute(self, name: str, default: Any) -> Any:
        """Lists are tuples."""
        return attribute(self.node, name, default)

    def axes(self) -> list[int] | None:
        """Attribute `axes`, or the second input: that of opset 18."""
        axes = self.attribute("axes", None)
        return self.numbers(1) if axes is None else list(axes)


def _both_sides(call: Call, size: Sequence[int], x: Tensor) -> list[int]:
    """Pads [top, left, …, bottom, right, …] of what slides a kernel over a map."""
    automatic = call.attribute("auto_pad", "NOTSET")
    if automatic in ("NOTSET", "VALID"):
        pads = call.attribute("pads", ())
        return list(pads) if pads and automatic == "NOTSET" else [0] * 2 * len(size)
    strides = call.attribute("strides", (1,) * len(size))
    dilations = call.attribute("dilations", (1,) * len(size))
    before, after = [], []
    for side, kernel, stride, dilation in zip(x.shape[2:], size, strides, dilations, strict=True):
        reach = dilation * (kernel - 1) + 1
        total = max((math.ceil(side / stride) - 1) * stride + reach - side, 0)
        less, more = total // 2, total - total // 2
        before.append(less if automatic == "SAME_UPPER" else more)
        after.append(more if automatic == "SAME_UPPER" else less)
    return before + after


def _for_pad(pads: Sequence[int]) -> list[int]:
    """Of `functional.pad`: the last axis first."""
    half = len(pads) // 2
    return [p for axis in reversed(range(half)) for p in (pads[axis], pads[half + axis])]


def _padded(x: Tensor, pads: Sequence[int], value: float = 0.0) -> tuple[Tensor, list[int]]:
    """The map, and the padding that is the same on both sides and left to the operator."""
    half = len(pads) // 2
    if list(pads[:half]) == list(pads[half:]):
        return x, list(pads[:half])
    return functional.pad(x, _for_pad(pads), value=value), [0] * half


def conv(call: Call) -> Tensor:
    """Conv of 1 to 3 dimensions."""
    weight = call[1]
    spatial = weight.ndim - 2
    x, padding = _padded(call[0], _both_sides(call, weight.shape[2:], call[0]))
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[spatial - 1]
    return convolve(
        x,
        weight,
        call.get(2),
        stride=call.attribute("strides", (1,) * spatial),
        padding=padding,
        dilation=call.attribute("dilations", (1,) * spatial),
        groups=call.attribute("group", 1),
    )


def conv_transpose(call: Call) -> Tensor:
    """ConvTranspose of 2 dimensions."""
    weight = call[1]
    if weight.ndim != 4 or call.attribute("auto_pad", "NOTSET") != "NOTSET":
        raise NotTakenError("automatic padding, or maps that are not 2D")
    if call.attribute("output_shape", None) is not None:
        raise NotTakenError("an output_shape")
    pads = list(call.attribute("pads", (0, 0, 0, 0)))
    more = call.attribute("output_padding", (0, 0))
    # What is cut off at one end beyond the other is output_padding with the opposite sign.
    after = [m + first - last for m, first, last in zip(more, pads[:2], pads[2:], strict=True)]
    if min(after) < 0:
        raise NotTakenError(f"pads {pads}")
    return functional.conv_transpose2d(
        call[0],
        weight,
        call.get(2),
        stride=call.attribute("strides", (1, 1)),
        padding=pads[:2],
        output_padding=after,
        groups=call.attribute("group", 1),
        dilation=call.attribute("dilations", (1, 1)),
    )


def pool(call: Call) -> Tensor:
    """MaxPool and AveragePool."""
    size = call.attribute("kernel_shape", ())
    if len(size) != 2 or call.attribute("ceil_mode", 0):
        raise NotTakenError("ceil_mode, or maps that are not 2D")
    strides, pads = call.attribute("strides", (1, 1)), _both_sides(call, size, call[0])
    if call.node.op_type == "MaxPool":
        x, padding = _padded(call[0], pads, -math.inf)
        dilations = call.attribute("dilations", (1, 1))
        return functional.max_pool2d(x, size, strides, padding, dilations)
    counted = bool(call.attribute("count_include_pad", 0))
    if pads[:2] != pads[2:] and not counted:
        raise NotTakenError("an average of what is padded on one side")
    x, padding = _padded(call[0], pads)
    return functional.avg_pool2d(x, size, strides, padding, count_include_pad=counted)


def resize(call: Call) -> Tensor:
    """Resize, linear or to the nearest pixel, also with channels last."""
    x, scales, sizes = call[0], call.numbers(2), call.numbers(3)
    shape = list(x.shape)
    if sizes:
        target = [int(size) for size in sizes]
    else:
        target = [int(side * scale) for side, scale in zip(shape, scales or [], strict=True)]
    changed = [axis for axis in range(x.ndim) if target[axis] != shape[axis]]
    if not changed:
        return x
    if x.ndim != 4 or call.attribute("axes", None) is not None:
        raise NotTakenError("maps that are not 2D")
    if set(changed) <= {1, 2} and 1 in changed:  # channels come last
        return _interpolated(call, x.permute(0, 3, 1, 2), target[1:3]).permute(0, 2, 3, 1)
    if set(changed) <= {2, 3}:
        return _interpolated(call, x, target[2:])
    raise NotTakenError(f"axes {changed}")


def _interpolated(call: Call, maps: Tensor, size: Sequence[int]) -> Tensor:
    mode = call.attribute("mode", "nearest")
    placed = call.attribute("coordinate_transformation_mode", "half_pixel")
    rounded = call.attribute("nearest_mode", "round_prefer_floor")
    if mode == "linear" and placed in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        aligned = placed == "align_corners"
        return functional.interpolate(maps, list(size), mode="bilinear", align_corners=aligned)
    if mode == "nearest" and (placed, rounded) == ("asymmetric", "floor"):
        return functional.interpolate(maps, list(size), mode="nearest")
    whole = all(new % old == 0 for new, old in zip(size, maps.shape[2:], strict=True))
    if mode == "nearest" and placed == "half_pixel" and whole:
        return functional.interpolate(maps, list(size), mode="nearest")
    raise NotTakenError(f"{mode}, {placed}, {rounded}")


def depth_to_space(call: Call) -> Tensor:
    """DepthToSpace in both orders."""
    x, block = call[0], call.attribute("blocksize", 0)
    if call.attribute("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(x, block)
    n, channels, height, width = x.shape
    parts = x.reshape(n, block, block, channels // block**2, height, width)
    moved = parts.permute(0, 3, 4, 1, 5, 2)
    return moved.reshape(n, channels // block**2, height * block, width * block)


def space_to_depth(call: Call) -> Tensor:
    """SpaceToDepth."""
    x, block = call[0], call.attribute("blocksize", 0)
    n, channels, height, width = x.shape
    parts = x.reshape(n, channels, height // block, block, width // block, block)
    moved = parts.permute(0, 3, 5, 1, 2, 4)
    return moved.reshape(n, channels * block**2, height // block, width // block)


def pad(call: Call) -> Tensor:
    """Pad with a constant, reflected or repeated."""
    pads = [int(pad) for pad in call.numbers(1) or []]
    if call.numbers(3) is not None:
        raise NotTakenError("axes")
    mode = call.attribute("mode", "constant")
    values = call.numbers(2) or [0]
    if mode == "constant":
        return functional.pad(call[0], _for_pad(pads), value=values[0])
    if call[0].ndim != 4 or any(pads[0:2] + pads[4:6]):
        raise NotTakenError(f"{mode} of maps that are not 2D")
    names = {"reflect": "reflect", "edge": "replicate"}
    if mode not in names:
        raise NotTakenError(mode)
    return functional.pad(call[0], _for_pad(pads)[:4], mode=names[mode])
