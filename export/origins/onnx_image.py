"""The input of a graph: its layout and size, and the normalisation that stands behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeunet.bundle.manifest import Levels
from edgeunet.errors import ExportError, UsageError

from ..graphs.passes.graph import Array, attribute, constant, operand, weights
from .onnx_batch import BATCH
from .onnx_reading import shown_shape

Layout = Literal["NCHW", "NHWC"]
Floats = npt.NDArray[np.float64]

_USUAL = (1, 3, 4)
_FULL_SCALES = (1.0, 255.0, 4095.0, 65535.0)
_KEEPS_AXES = {
    *("Abs", "Add", "Cast", "Clip", "Concat", "Div", "Identity", "Max", "Min", "Mul", "Neg"),
    *("Pad", "Pow", "Relu", "Resize", "Slice", "Split", "Sub", "BatchNormalization", "Gather"),
    "MaxPool",
}


@dataclass(frozen=True)
class Normalisation:
    """What a graph does with raw values, per channel of the net: value * gain + shift.

    order: for each channel of the net its place in the input. levels: raw values that mean black
    and white; None if nothing tells.
    inside: whether it stays in the graph, which then takes raw values.
    """

    gain: tuple[float, ...]
    shift: tuple[float, ...]
    order: tuple[int, ...]
    levels: Levels | None
    inside: bool = False

    @property
    def mean(self) -> tuple[float, ...]:
        """For values scaled to 0..1, as `InputSpec` has it."""
        low, high = self.levels or (0.0, 1.0)
        pairs = zip(self.gain, self.shift, strict=True)
        return tuple(-(gain * low + shift) / (gain * (high - low)) for gain, shift in pairs)

    @property
    def std(self) -> tuple[float, ...]:
        """For values scaled to 0..1, as `InputSpec` has it."""
        low, high = self.levels or (0.0, 1.0)
        return tuple(1 / (gain * (high - low)) for gain in self.gain)


def find_layout(image: ir.Value) -> tuple[Layout, int | None]:
    """Layout of the input, and its number of channels if the first convolution tells.

    The convolution that the image reaches first has its channels on axis 1; the Transposes
    before it tell where they are in the image. Without a convolution the sizes tell.

    Raises:
        ExportError: the channels are on another axis than 1 or 3.
    """
    waiting: list[tuple[ir.Value, tuple[int, ...], bool]] = [(image, (0, 1, 2, 3), True)]
    seen = set()
    while waiting:
        value, axes, whole = waiting.pop(0)
        for node in value.consumers():
            if node in seen:
                continue
            seen.add(node)
            if node.op_type == "Conv" and node.inputs[0] is value:
                if axes[1] not in (1, 3):
                    raise ExportError(
                        f"the channels of the input {image.name!r} are on axis {axes[1]}; expected "
                        "1 (NCHW) or 3 (NHWC)."
                    )
                kernels = weights(node)
                count = kernels[0].shape[1] * attribute(node, "group", 1) if kernels else None
                return ("NCHW" if axes[1] == 1 else "NHWC"), count if whole else None
            if node.op_type == "Transpose":
                perm = attribute(node, "perm", (3, 2, 1, 0))
                waiting.append((node.outputs[0], tuple(axes[axis] for axis in perm), whole))
            elif node.op_type in _KEEPS_AXES:
                same = whole and node.op_type not in ("Concat", "Slice", "Split", "Gather")
                waiting.extend((output, axes, same) for output in node.outputs)
    shape = () if image.shape is None else tuple(image.shape)
    last = len(shape) == 4 and shape[3] in _USUAL and shape[1] not in _USUAL
    return ("NHWC" if last else "NCHW"), None


def input_size(
    image: ir.Value, layout: Layout, size: tuple[int, int] | None
) -> tuple[tuple[int, int], bool]:
    """Height and width of the input, and whether its batch is fixed to 1.

    Raises:
        UsageError: the graph leaves its size open and none is given, or has another.
        ExportError: the graph has a batch of more than 1.
    """
    assert image.shape is not None
    batch, *sides = (dim if isinstance(dim, int) else None for dim in image.shape)
    if layout == "NCHW":
        sides = sides[1:]
    height, width = sides[:2]
    if batch not in (None, 1, -1):
        raise ExportError(
            f"the input {image.name!r} is {shown_shape(image)}, batches of {batch}; expected 1 or "
            "a dynamic batch. Export the net again."
        )
    if size is None:
        if not height or not width:
            raise UsageError(
                f"the input {image.name!r} is {shown_shape(image)} and leaves the size open. Pass "
                "--size HxW."
            )
        return (height, width), batch == 1
    if (height or size[0], width or size[1]) != size:
        raise UsageError(
            f"the input {image.name!r} is {shown_shape(image)}; --size {size[0]}x{size[1]} does "
            "not fit. Leave it out, or export the net with a dynamic size."
        )
    return size, batch == 1


def to_contract(
    model: ir.Model, layout: Layout, shape: tuple[int, int, int], *, batch: int | str
) -> None:
    """Replace the input by `image`, FP32 (batch, C, H, W)."""
    graph = model.graph
    (old,) = graph.inputs
    new = ir.val("image", ir.DataType.FLOAT, ir.Shape([batch, *shape]))
    graph.inputs[:] = [new]
    if old.name == "image":
        old.name = "image_before"
    if layout == "NCHW":
        old.replace_all_uses_with(new)
        return
    node = ir.node("Transpose", [new], {"perm": (0, 2, 3, 1)}, name="image_channels_last")
    node.outputs[0].name = "image_channels_last_output"
    node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    old.replace_all_uses_with(node.outputs[0])
    graph.insert_before(graph[0], node)


def set_batch(model: ir.Model, batch: int | str = BATCH) -> None:
    """Give the input a batch."""
    (image,) = model.graph.inputs
    assert image.shape is not None
    image.shape = ir.Shape([batch, *image.shape[1:]])


def take_normalisation(model: ir.Model, *, byte: bool) -> Normalisation | None:
    """Take what normalises the image off a graph (N, C, H, W), and tell what it was.

    That are Sub, Div, Mul and Add by constants of each channel, and other orders of the channels,
    in front of the first node that is none of these. If `InputSpec` cannot say it, because a
    factor is not positive, it stays inside. None if there is nothing.

    Args:
        byte: whether the input holds bytes. Their graph takes raw values also if nothing here
            tells how it normalises them.
    """
    (image,) = model.graph.inputs
    assert image.shape is not None
    count = image.shape[1]
    assert isinstance(count, int)
    gain, shift = np.ones(count), np.zeros(count)
    order = np.arange(count)
    last = image
    while len(last.uses()) == 1 and not last.is_graph_output():
        ((node, index),) = last.uses()
        step = _affine(node, index, count)
        permuted = _permutation(node, count)
        if step is not None:
            gain, shift = gain * step[0], shift * step[0] + step[1]
        elif permuted is not None:
            gain, shift, order = gain[permuted], shift[permuted], order[permuted]
        else:
            break
        last = node.outputs[0]
    plain = bool((gain == 1).all() and not shift.any())
    white = 255.0 if byte else None if plain else _full_scale(gain, shift)
    levels = None if white is None else (0.0, white)
    if bool((gain > 0).all() and np.isfinite(gain).all() and np.isfinite(shift).all()):
        last.replace_all_uses_with(image)
        if plain and not byte and (order == np.arange(count)).all():
            return None
        places = tuple(order.tolist())
        return Normalisation(
            tuple(gain.tolist()), tuple(shift.tolist()), places, levels, inside=byte and plain
        )
    return Normalisation((1.0,) * count, (0.0,) * count, tuple(range(count)), levels, inside=True)


def _affine(node: ir.Node, index: int, count: int) -> tuple[Floats, Floats] | None:
    """Gain and shift of each channel by a node; None for any other node."""
    one, zero = np.ones(count), np.zeros(count)
    if node.op_type in ("Identity", "Neg"):
        return (one if node.op_type == "Identity" else -one), zero
    if node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    values = _per_channel(constant(operand(node, 1 - index)), count)
    if values is None:
        return None
    if node.op_type == "Add":
        return one, values
    if node.op_type == "Mul":
        return values, zero
    if node.op_type == "Sub":
        return (one, -values) if index == 0 else (-one, values)
    if index == 1 or not values.all():
        return None
    return 1 / values, zero


def _per_channel(values: Array | None, count: int) -> Floats | None:
    """A constant as one number for each channel (C,); None if it differs within a channel."""
    if values is None or values.ndim > 4 or values.dtype.kind != "f":
        return None
    whole = values.reshape((1,) * (4 - values.ndim) + values.shape)
    first = whole[:, :, :1, :1]
    if len(whole) != 1 or first.size not in (1, count) or (whole != first).any():
        return None  # it differs between pixels
    return np.broadcast_to(first.reshape(-1).astype(np.float64), count)


def _permutation(node: ir.Node, count: int) -> npt.NDArray[np.intp] | None:
    """The places that the channels come from, for a Gather or a Slice that reorders them."""
    if node.op_type == "Gather" and attribute(node, "axis", 0) in (1, -3):
        indices = constant(operand(node, 1))
        if indices is not None and sorted(int(i) % count for i in indices) == list(range(count)):
            return np.asarray(indices % count, np.intp)
    if node.op_type == "Slice":
        axes, steps, starts = (constant(operand(node, index)) for index in (3, 4, 1))
        if axes is None or steps is None or starts is None or len(axes) != 1:
            return None
        ends = constant(operand(node, 2))
        reversed_ = int(axes[0]) % 4 == 1 and int(steps[0]) == -1
        from_last = int(starts[0]) == -1 or int(starts[0]) >= count - 1
        if reversed_ and from_last and ends is not None and int(ends[0]) < -count:
            return np.arange(count)[::-1]
    return None


def _full_scale(gain: Floats, shift: Floats) -> float | None:
    """The raw value that means white: with it, mean and std are those of values in 0..1.

    A mean of 0.45 belongs to values in 0..1, one of 115 to bytes; a divisor of 58 too.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        middle, width = float((-shift / gain).max()), float(np.abs(1 / gain).max())
    largest = max(middle, width)
    return next((scale for scale in _FULL_SCALES if largest <= 1.05 * scale), None)
