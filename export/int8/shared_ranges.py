"""One range for tensors whose values lie side by side, so that nothing is rescaled between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

Range = tuple[float, float]

# What they put out are values of their first input, or means of such.
_MOVES = (
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "MaxPool",
    "Pad",
    "Reshape",
    "Resize",
    "Slice",
    "Transpose",
)
_CLAMPS = ("Clip", "Relu")


def share_ranges(
    model: onnx.ModelProto, ranges: Mapping[str, Range], *, keep_clamps: bool
) -> dict[str, Range]:
    """The ranges, the widest of theirs for tensors that meet in a Concat or are only moved.

    A builder that finds different scales around a Concat requantizes its inputs, and U-Net++ and
    U-Net 3+ are full of Concats (30 % of the time in TensorRT issue 4366).

    Args:
        keep_clamps: leave out a Concat in which clamped inputs (Relu, Clip) meet others. ONNX
            Runtime drops a clamp that ends where the range does; with a wider range it keeps the
            clamp, and the convolution before it in float.
    """
    groups = {name: {name} for name in ranges}
    clamped: set[str] = set()
    for node in model.graph.node:
        if node.op_type in _CLAMPS:
            clamped.update(node.output)
            continue
        met = _meeting(node)
        sources = [name for name in met if name in node.input]
        if met and clamped.issuperset(sources):
            clamped.update(node.output)
        elif keep_clamps and not clamped.isdisjoint(sources):
            continue
        joined = set[str]().union(*(groups.get(name, set()) for name in met))
        groups.update(dict.fromkeys(joined, joined))
    return {name: _widest([ranges[member] for member in groups[name]]) for name in ranges}


def inherit_ranges(model: onnx.ModelProto, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The ranges, and for tensors without one the range of where they are moved to, or from."""
    known = dict(ranges)
    for node in reversed(model.graph.node):  # sorted by the ONNX standard
        if node.op_type in _MOVES and node.output[0] in known:
            known.setdefault(node.input[0], known[node.output[0]])
    for node in model.graph.node:
        if node.op_type in _MOVES and node.input[0] in known:
            known.setdefault(node.output[0], known[node.input[0]])
    return known


def _meeting(node: onnx.NodeProto) -> list[str]:
    """Inputs and outputs of a node that ought to have one range."""
    if node.op_type == "Concat":
        return [*node.input, *node.output]
    return [node.input[0], *node.output] if node.op_type in _MOVES else []


def _widest(members: Sequence[Range]) -> Range:
    return min(low for low, _ in members), max(high for _, high in members)
