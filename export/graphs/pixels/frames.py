"""Frames as consumers have them -> the net's input, inside the graph."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeunet.bundle.manifest import RGB, InputSpec
from edgeunet.data.normalise import scaling

from ..passes.graph import attribute, constant, set_constant
from .geometry import Geometry, Nodes, resized

_LUMA = np.array([9798, 19235, 3735], np.float32) / np.float32(1 << 15)
"""ITU-R BT.601 as `cv2.cvtColor` rounds it. Sums of these times bytes are exact in FP32."""


def declare_frames(spec: InputSpec, *, any_size: bool) -> ir.Value:
    """The input `frames` (batch, height, width, channels) of the depth that the net's frames have.

    The channels are those of `InputSpec.frame_channels`: red, green, blue of most nets.
    """
    size = ("height", "width") if any_size else (spec.height, spec.width)
    kind = ir.TensorType(ir.DataType.from_numpy(np.dtype(spec.depth)))
    shape = ir.Shape(["batch", *size, len(spec.frame_channels)])
    return ir.val("frames", type=kind, shape=shape)


def read_frames(
    nodes: Nodes,
    frames: ir.Value,
    image: ir.Value,
    spec: InputSpec,
    geometry: Geometry,
    *,
    folds: bool,
) -> ir.Value:
    """Add what `Preprocessor` does, and return the value that takes the place of `image`.

    Args:
        frames: (N, H, W, channels) in FP32. folds: see `read_planes`.
    """
    planes = nodes("Transpose", frames, perm=[0, 3, 1, 2])
    return read_planes(nodes, planes, image, spec, geometry, folds=folds)


def read_planes(
    nodes: Nodes,
    planes: ir.Value,
    image: ir.Value,
    spec: InputSpec,
    geometry: Geometry,
    *,
    folds: bool,
) -> ir.Value:
    """As `read_frames`, of frames whose channels come first.

    Args:
        planes: (N, channels, H, W) in FP32, raw values. image: the net's input.
        folds: whether the first convolution may do the normalisation. It rounds differently then,
            in the last bit. In a quantized graph that moves values from one level to the next: on
            frames of CamVid 0.1 to 0.2 % of the pixels changed, and two passes over the image that
            remain otherwise take 0.1 ms of 17.
    """
    maps = _channels(nodes, planes, spec)
    fixed = isinstance(geometry.size, np.ndarray)
    if geometry.fitted is not geometry.size:
        count = len(spec.channels)
        maps = resized(
            nodes, maps, geometry.size if fixed else None, geometry.fitted, channels=count
        )
    if spec.fill is not None:  # a raw value, and one for all channels
        maps = _padded(nodes, maps, geometry, spec.fill)
    conv = first_convolution(image) if folds else None
    maps = _normalised(nodes, maps, conv, spec, geometry)
    return maps if spec.fill is not None else _padded(nodes, maps, geometry, 0.0)


def _channels(nodes: Nodes, maps: ir.Value, spec: InputSpec) -> ir.Value:
    """The net's channels, in its order, in raw levels."""
    names, given = spec.channels, spec.frame_channels
    if names == ("gray",) and given == RGB:
        luma = nodes("Conv", maps, _LUMA.reshape(1, 3, 1, 1), np.full(1, 0.5, np.float32))
        return nodes("Floor", luma)
    if names == given:
        return maps
    return nodes("Gather", maps, np.array([given.index(name) for name in names]), axis=1)


def _padded(nodes: Nodes, maps: ir.Value, geometry: Geometry, value: float) -> ir.Value:
    if geometry.before is None:
        return maps
    none = np.zeros(2, np.int64)
    ends = (none, geometry.before, none, geometry.after)
    pads = (
        np.concatenate([np.asarray(end) for end in ends])
        if isinstance(geometry.size, np.ndarray)
        else nodes("Concat", *ends, axis=0)
    )
    return nodes("Pad", maps, pads, np.float32(value))


def _normalised(
    nodes: Nodes, maps: ir.Value, conv: ir.Node | None, spec: InputSpec, geometry: Geometry
) -> ir.Value:
    """Raw * gain + shift, computed by the convolution that reads it if there is one."""
    gain, shift = (values.astype(np.float64) for values in scaling(spec))
    pads_with_mean = geometry.before is not None and spec.fill is None
    if conv is None:
        scaled = nodes("Mul", maps, per_channel(gain))
        return nodes("Add", scaled, per_channel(shift))
    weight = constant(conv.inputs[1])
    assert weight is not None
    set_constant(conv, 1, (weight * per_channel(gain)).astype(np.float32))
    if not pads_with_mean and not _pads(conv):
        moved = np.einsum("oihw,i->o", weight.astype(np.float64), shift)
        bias = constant(conv.inputs[2]) if len(conv.inputs) > 2 else np.float32(0)
        assert bias is not None
        set_constant(conv, 2, (bias + moved).astype(np.float32))
        return maps
    # The convolution pads with 0, which must go on to mean the mean: 0 stays 0 if it is scaled.
    return nodes("Sub", maps, per_channel(-shift / gain))


def per_channel(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """As (1, C, 1, 1)."""
    return values.astype(np.float32).reshape(1, -1, 1, 1)


def first_convolution(image: ir.Value) -> ir.Node | None:
    """The FP32 convolution of constant weights that alone reads the image; None if others do.

    FP16 would lose small weights once they are multiplied by the gain, and what quantizes the image
    has one scale for all channels.
    """
    readers = list(image.uses())
    if len(readers) != 1:
        return None
    conv, index = readers[0]
    fixed = conv.op_type == "Conv" and index == 0 and attribute(conv, "group", 1) == 1
    if not fixed or any(constant(value) is None for value in conv.inputs[1:]):
        return None
    weight = constant(conv.inputs[1])
    return conv if weight is not None and weight.dtype == np.float32 and weight.ndim == 4 else None


def _pads(conv: ir.Node) -> bool:
    """Whether a convolution reads beyond its map."""
    automatic = attribute(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return automatic or any(attribute(conv, "pads", ()))
