"""One range for tensors that meet in a Concat or are only moved, so that nothing is rescaled."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import onnx_ir as ir

from ..graphs.passes.graph import constant, names

Range = tuple[float, float]

# Their outputs are values of their first input, or means of those.
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
    "SpaceToDepth",
    "Transpose",
)
_CLAMPS = ("Clip", "Relu")


def share_ranges(
    model: ir.Model, ranges: Mapping[str, Range], *, keep_clamps: bool
) -> dict[str, Range]:
    """The ranges; tensors that meet in a Concat or are only moved get the widest of theirs.

    A builder that finds different scales around a Concat requantizes its inputs, and U-Net++ and
    U-Net 3+ are full of Concats (30 % of the time in TensorRT issue 4366).

    Args:
        keep_clamps: leave out a Concat in which clamped inputs (Relu, Clip) meet others. ONNX
            Runtime drops a clamp that ends where the range does. With a wider range it keeps the
            clamp, and runs the convolution before it in float.
    """
    groups = {name: {name} for name in ranges}
    clamped: set[str] = set()
    for node in model.graph:
        inputs, outputs = _meeting(node)
        if node.op_type in _CLAMPS or (inputs and clamped.issuperset(inputs)):
            clamped.update(names(node.outputs))
        elif keep_clamps and not clamped.isdisjoint(inputs):
            continue
        joined = set[str]().union(*(groups.get(name, set()) for name in (*inputs, *outputs)))
        groups.update(dict.fromkeys(joined, joined))
    return {name: _widest([ranges[member] for member in groups[name]]) for name in ranges}


def inherit_ranges(model: ir.Model, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The ranges, and for moved tensors without one the range of where they go to or come from."""
    known = dict(ranges)
    moves = [
        (str(source.name), str(node.outputs[0].name))
        for node in model.graph
        if node.op_type in _MOVES and (source := node.inputs[0]) is not None
    ]
    for before, after in reversed(moves):  # the graph is sorted
        if after in known:
            known.setdefault(before, known[after])
    for before, after in moves:
        if before in known:
            known.setdefault(after, known[before])
    return known


def balance_ranges(
    model: ir.Model, ranges: Mapping[str, Range], nodes: Collection[str]
) -> dict[str, Range]:
    """The ranges; those of signed values that a convolution sums over several pixels are symmetric.

    Their zero point is 128 then, so that unsigned bytes are signed ones without a zero point plus
    128. With AMX, oneDNN takes up to 1.3 times as long for a convolution of several pixels that has
    a zero point. Depthwise convolutions do not count.

    Tensors of equal range stay equal.

    Args:
        nodes: names of the nodes that run in INT8.
    """
    read = {
        ranges.get(str(node.inputs[0].name))
        for node in model.graph
        if node.op_type == "Conv"
        and node.name in nodes
        and node.inputs[0] is not None
        and _sums_pixels(node)
    }
    return {
        name: _balanced(limits) if limits in read and limits[0] < 0 else limits
        for name, limits in ranges.items()
    }


def _sums_pixels(conv: ir.Node) -> bool:
    """Whether a convolution has a kernel of several pixels, and is not depthwise."""
    weight = constant(conv.inputs[1])
    return weight is not None and weight.shape[1] > 1 and max(weight.shape[2:]) > 1


def _balanced(limits: Range) -> Range:
    """The narrowest range around both limits of which 127 steps lie above 0, and 128 below."""
    step = max(limits[1] / 127, -limits[0] / 128)
    return -128 * step, 127 * step


_ENDS: Mapping[str, float] = {"HardSwish": -3.0}
"""Below, these put out the same 0 for every value."""


def cut_unused(model: ir.Model, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The ranges without the values that all readers of a tensor take for the same.

    A HardSwish makes 0 of all that is below -3, and its convolutions reach far below. What is left
    of the range gets finer levels.
    """
    cut = dict(ranges)
    for node in model.graph:
        name = str(node.outputs[0].name)
        readers = {reader.op_type for reader in node.outputs[0].consumers()}
        if name in ranges and readers and readers <= _ENDS.keys():
            low, high = ranges[name]
            end = min(_ENDS[reader] for reader in readers)
            cut[name] = (max(low, end), max(high, 0.0))
    return cut


def _meeting(node: ir.Node) -> tuple[list[str], list[str]]:
    """Inputs and outputs of a node that should have one range."""
    if node.op_type == "Concat":
        return names(node.inputs), names(node.outputs)
    return (names(node.inputs[:1]), names(node.outputs)) if node.op_type in _MOVES else ([], [])


def _widest(members: Sequence[Range]) -> Range:
    return min(low for low, _ in members), max(high for _, high in members)
