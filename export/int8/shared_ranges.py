"""One range for tensors that meet in a Concat or are only moved, so that nothing is rescaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from ..graphs.passes.graph import names

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
